"""Who a path names, where that one stands, and which tiers there are."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from accounts.users import User
from admin_api.people import standing_of
from config.catalog import Catalog
from policies.tier import Tier
from tests.admin_api.world import path_of, pointers, written
from tests.house import Admin, Farebox

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ADA = User(UUID(int=1), UUID(int=2), "r", "s", "", "", "user", "gone", "active", "en")


def house(*tiers: str) -> Any:
    catalog = Catalog(tiers={name: Tier(name) for name in tiers})
    return SimpleNamespace(catalog=lambda: catalog, settings=SimpleNamespace(default_tier="free"))


async def test_a_user_is_there_until_it_is_deleted(module_farebox: Farebox) -> None:
    admin: Admin = module_farebox.admin
    caller = await module_farebox.caller()
    for status, found in (("active", 200), ("suspended", 200), ("deleted", 404)):
        await module_farebox.accounts.set_status(caller.user.id, status)  # type: ignore[arg-type] # the three words
        assert (await admin.get(f"{path_of(caller)}/grants")).status == found


def test_who_has_no_tier_stands_nowhere() -> None:
    assert standing_of(house("pro"), ADA, NOW) is None
    standing = standing_of(house("pro", "free"), ADA, NOW)
    assert standing is not None and (standing.tier.name, standing.why) == ("free", "missing")


async def test_a_tier_is_given_as_soon_as_it_is_made_and_until_it_is_retired(module_farebox: Farebox) -> None:
    admin: Admin = module_farebox.admin
    assert pointers(await admin.post("/users", {"tier": "gold"})) == ["#/tier"]
    await admin.made("/tiers", {"name": "gold"})
    user = await admin.made("/users", {"tier": "gold"})
    await written(module_farebox, "UPDATE tiers SET retired_at = now() WHERE name = 'gold'")
    assert pointers(await admin.post("/users", {"tier": "gold"})) == ["#/tier"]
    # Who has it keeps it.
    assert (await admin.read(f"/users/{user['id']}"))["in_force"]["name"] == "gold"

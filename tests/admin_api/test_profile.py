"""One user whole: what the page of one user needs, in one request, and told also where something is missing."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.admin_api.world import grouped, path_of, rolled, written
from tests.house import Admin, Farebox, until


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


async def test_what_was_used_and_what_is_left_agree_with_the_charges(admin: Admin, module_farebox: Farebox) -> None:
    caller = await module_farebox.caller(tier="free", usd="1.00")
    assert [(await module_farebox.chat(caller)).status for _ in range(3)] == [200] * 3
    await rolled(module_farebox)
    charged = sum(row["amount"] for row in await module_farebox.charges(caller.user.id))
    user = await admin.read(path_of(caller))
    assert user["this_month"]["calls"] == 3 and nano(user["this_month"]["amount"]) == charged > 0
    assert nano(user["balance"]["available"]) == 1_100_000_000 - charged
    assert nano(user["allowances"][0]["left"]) == 100_000_000 - charged
    assert sum(nano(grant["remaining"]) for grant in user["grants"]) == nano(user["balance"]["spendable"])


async def test_whose_group_pays_is_shown_the_groups_wallet(admin: Admin, module_farebox: Farebox) -> None:
    caller = await module_farebox.caller(tier="pro", usd="1.00")
    group = await grouped(module_farebox, caller.user.id, name=uuid4().hex, shared=True)
    user = await admin.read(path_of(caller))
    assert user["in_force"]["paid_by"] == group["id"] and user["balance"]["wallet_id"] == group["wallet_id"]
    assert (user["balance"]["available"], user["status"]["code"]) == ("0.0000", "insufficient_balance")
    assert user["groups"] == [{"id": group["id"], "name": group["name"]}]
    assert user["wallet_id"] == str(caller.user.wallet_id) != group["wallet_id"]


async def test_looking_at_a_member_leaves_the_allowance_in_its_own_wallet_alone(
    admin: Admin, module_farebox: Farebox
) -> None:
    caller = await module_farebox.caller(tier="free", usd="0")
    assert (await admin.read(path_of(caller)))["balance"]["by_kind"] == {"plan": "0.1000"}
    group = await grouped(module_farebox, caller.user.id, name=uuid4().hex, shared=True)
    await admin.read(path_of(caller))
    assert await module_farebox.spendable(caller) == 100_000_000
    await admin.delete(f"/groups/{group['id']}/members/{caller.user.id}")
    assert (await admin.read(path_of(caller)))["balance"]["available"] == "0.1000"


async def test_who_has_no_tier_at_all_is_shown_with_what_there_is(farebox: Farebox) -> None:
    admin, caller = farebox.admin, await farebox.caller(tier="pro")
    await written(farebox, "DELETE FROM tiers WHERE name <> 'admin'")

    async def gone() -> bool:
        return farebox.run.gateway.parts.catalog().tier("free") is None

    await until(gone)
    user = await admin.read(path_of(caller))
    assert (user["in_force"], user["balance"], user["limits"]) == (None, None, None)
    assert user["status"]["can_make_request"] is False and user["status"]["code"] != ""
    assert (await admin.get(f"{path_of(caller)}/limits")).status == 409
    assert (await admin.patch(path_of(caller), {"tier": "admin", "tier_from": "period_end"})).status == 409


def nano(usd: str) -> int:
    return round(float(usd) * 1e9)

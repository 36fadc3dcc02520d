"""A key by which an admin acts as a user: it spends the user's money, ends soon, and each call says who made it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from accounts.keys import IMPERSONATION, Key
from tests import house
from tests.backend import Backend
from tests.house import Caller, Farebox, until

ADMIN = "admin:root@example.org"


async def acting_key(farebox: Farebox, owner: Caller, minutes: float = 10) -> tuple[Caller, Key]:
    """A key by which an admin acts as this user."""
    full, key = await farebox.accounts.create_key(
        name="acting",
        user_id=owner.user.id,
        scopes=[IMPERSONATION],
        expires_at=datetime.now(UTC) + timedelta(minutes=minutes),
        acted_by=ADMIN,
    )
    return Caller(owner.user, full), key


async def test_calls_made_for_a_user_are_the_users_and_say_who_made_them(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:
        ada = await farebox.caller(usd="1.00")
        acting, key = await acting_key(farebox, ada)
        assert (await farebox.chat(acting, model="flat")).headers["x-farebox-balance"] == "0.9900"
        assert (await farebox.chat(ada, model="flat")).status == 200
        first, second = await farebox.charges(ada.user.id)
        account = (await farebox.get("/v1/account", acting)).json()
        (row,) = await farebox.rows("SELECT acted_by FROM api_keys WHERE id = :id", id=first["key_id"])
    assert (first["key_id"], row["acted_by"]) == (key.id, ADMIN) and second["key_id"] != key.id
    assert account["id"] == str(ada.user.id)
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"at"')]
    assert [line.get("acted_by") for line in lines] == [ADMIN, None]


async def test_it_ends_by_itself_and_with_its_users_sessions(farebox: Farebox) -> None:
    ada = await farebox.caller()
    over, _ = await acting_key(farebox, ada, minutes=-1)
    assert (await farebox.chat(over)).error["code"] == "key_expired"
    acting, _ = await acting_key(farebox, ada)
    assert (await farebox.chat(acting)).status == 200
    await farebox.accounts.revoke_sessions(ada.user.id)

    async def ended() -> bool:
        return (await farebox.chat(acting)).status == 401

    await until(ended)
    assert (await farebox.chat(acting)).error["code"] == "key_revoked"


async def test_who_acts_as_a_suspended_user_is_refused_like_the_user(farebox: Farebox) -> None:
    ada = await farebox.caller()
    acting, _ = await acting_key(farebox, ada)
    await farebox.accounts.set_status(ada.user.id, "suspended")

    async def refused() -> bool:
        return (await farebox.chat(acting)).status == 403

    await until(refused)
    assert (await farebox.chat(acting)).error["code"] == "account_suspended"

"""Keys in a real database: what is kept is not the key, limits are its own, a line of rotated keys counts as one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import CHARGES, FORWARD_USERS, IMPERSONATION, INFERENCE, parse, proves
from accounts.store_sql import Accounts, Conflict
from accounts.users import User
from ledger.audit import Actor
from ledger.budget import Budget
from policies.key_limits import UNLIMITED, KeyLimits
from policies.tier import Window
from tests.accounts.conftest import Recorded, Rows

NOBODY = UUID(int=0)
ANNE = Actor("anne", "admin")
LIMITS = KeyLimits(("small*",), (Window(5, "requests", 60),), Budget(10**9, "month"))


@pytest.fixture
async def user(accounts: Accounts) -> User:
    return await accounts.create_user(name="a")


async def test_the_secret_of_a_key_is_nowhere_in_the_database(accounts: Accounts, rows: Rows, user: User) -> None:
    full, key = await accounts.create_key(name="laptop", user_id=user.id)
    parts = parse(full)
    assert parts is not None and proves(accounts.pepper, parts.secret, key.digest)
    stored = str(await rows("SELECT * FROM api_keys"))
    assert parts.prefix in stored and full[-49:] not in stored and parts.secret.hex() not in stored
    record = str(await rows("SELECT * FROM audit"))
    assert parts.prefix in record and full[-49:] not in record and key.digest.hex() not in record


async def test_keys_are_found_many_at_once(accounts: Accounts, user: User) -> None:
    made = [(await accounts.create_key(name=name, user_id=user.id))[1] for name in "ab"]
    found = await accounts.find_keys([*(key.prefix for key in made), "nothere"])
    assert found == {key.prefix: key for key in made}
    assert await accounts.find_key(made[0].id) == made[0]
    assert await accounts.find_key(NOBODY) is None


async def test_a_key_keeps_what_it_was_given(accounts: Accounts) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    _, key = await accounts.create_key(
        name="owui", scopes=[FORWARD_USERS], realm="openwebui", plain_headers=True, expires_at=until, acted_by="anne"
    )
    assert (key.user_id, key.realm, key.plain_headers, key.expires_at) == (None, "openwebui", True, until)
    assert key.forwards_users and key.acted_by == "anne"


async def test_limits_come_back_with_counters_of_the_keys_own(accounts: Accounts, rows: Rows, user: User) -> None:
    _, key = await accounts.create_key(name="k", user_id=user.id, limits=LIMITS)
    assert key.limits == LIMITS.owned_by(key.id) and key.limits.owner == key.id
    _, plain = await accounts.create_key(name="p", user_id=user.id)
    assert plain.limits == UNLIMITED.owned_by(plain.id)
    assert await rows("SELECT limits FROM api_keys WHERE name = 'p'") == [({},)]


@pytest.mark.parametrize("scopes", [[], [FORWARD_USERS]])
async def test_a_key_that_speaks_for_nobody_is_refused(accounts: Accounts, scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="a key needs a user"):
        await accounts.create_key(name="x", scopes=scopes)


async def test_a_key_for_charges_speaks_for_its_realm(accounts: Accounts) -> None:
    _, key = await accounts.create_key(name="batch", scopes=[CHARGES], realm="chat")
    assert (key.user_id, key.effective_scopes) == (None, (CHARGES,))
    with pytest.raises(ValueError, match="a key needs a user"):
        await accounts.create_key(name="batch", scopes=[CHARGES])


async def test_a_scope_nobody_knows_is_refused_with_those_that_are(accounts: Accounts, user: User) -> None:
    with pytest.raises(ValueError, match="no scope root; known are inference"):
        await accounts.create_key(name="x", user_id=user.id, scopes=["root"])


async def test_the_database_refuses_a_key_that_speaks_for_nobody(engine: AsyncEngine) -> None:
    statement = (
        "INSERT INTO api_keys (id, prefix, digest) VALUES (gen_random_uuid(), 'p', decode(repeat('00',32),'hex'))"
    )
    with pytest.raises(DBAPIError, match="speak_for_someone"):
        async with engine.begin() as connection:
            await connection.execute(text(statement))


async def test_keys_are_listed_by_user_text_and_life_page_by_page(accounts: Accounts, user: User) -> None:
    other = await accounts.create_user(name="b")
    a, b = [(await accounts.create_key(name=f"Key {name}", user_id=user.id))[1] for name in "ab"]
    _, c = await accounts.create_key(name="c_", user_id=other.id, expires_at=datetime.now(UTC) - timedelta(days=1))
    _, service = await accounts.create_key(name="s", scopes=[FORWARD_USERS], realm="chat")
    await accounts.revoke_key(b.id)

    async def ids(*of: Any, **told: Any) -> list[UUID]:
        return [key.id for key in await accounts.list_keys(*of, **told)]

    assert await ids() == [a.id, b.id, c.id, service.id]
    assert await ids(user.id) == [a.id, b.id] and await ids(NOBODY) == []
    assert await ids(alive=True) == [a.id, service.id]
    assert await ids(search="KEY") == [a.id, b.id] and await ids(search="_") == [c.id]
    assert await ids(search="chat") == [service.id] and await ids(search=a.prefix) == [a.id]
    assert await ids(services=True) == [service.id]
    assert await ids(limit=2) == [a.id, b.id] and await ids(after=b.id, limit=2) == [c.id, service.id]


async def test_a_key_is_revoked_once(accounts: Accounts, user: User, recorded: Recorded) -> None:
    _, key = await accounts.create_key(name="x", user_id=user.id)
    assert await accounts.revoke_key(key.id, by=ANNE) and not await accounts.revoke_key(key.id)
    assert not await accounts.revoke_key(NOBODY)
    assert (await accounts.find_keys([key.prefix]))[key.prefix].revoked_at is not None
    assert [row[:3] for row in (await recorded())[-2:]] == [
        ("key.create", str(key.id), "system"),
        ("key.revoke", str(key.id), "anne"),
    ]


async def test_a_key_is_changed_in_what_is_told_and_recorded_so(
    accounts: Accounts, user: User, recorded: Recorded
) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    _, key = await accounts.create_key(name="x", user_id=user.id, expires_at=until)
    changed = await accounts.change_key(key.id, name="y", limits=LIMITS, scopes=[INFERENCE], by=ANNE)
    assert changed is not None and changed == await accounts.find_key(key.id)
    assert (changed.name, changed.scopes, changed.expires_at) == ("y", (INFERENCE,), until)
    assert changed.limits == LIMITS.owned_by(key.id)
    action, target, actor, before, after = (await recorded())[-1]
    assert (action, target, actor) == ("key.change", str(key.id), "anne")
    assert before == {"name": "x", "limits": {}, "scopes": []}
    assert after["limits"]["windows"] == [
        {"limit": 5, "of": "requests", "seconds": 60, "route": None, "models": [], "scope": ""}
    ]
    endless = await accounts.change_key(key.id, expires_at=None)
    assert endless is not None and endless.expires_at is None and endless.name == "y"


async def test_a_key_changed_to_what_it_is_leaves_no_record(accounts: Accounts, user: User, recorded: Recorded) -> None:
    _, key = await accounts.create_key(name="x", user_id=user.id, limits=LIMITS)
    before = await recorded()
    assert await accounts.change_key(key.id, name="x", limits=LIMITS) == key
    assert await recorded() == before


async def test_a_key_cannot_be_changed_into_one_that_speaks_for_nobody(accounts: Accounts) -> None:
    _, key = await accounts.create_key(name="s", scopes=[FORWARD_USERS], realm="chat")
    with pytest.raises(ValueError, match="a key needs a user"):
        await accounts.change_key(key.id, scopes=[INFERENCE])
    with pytest.raises(ValueError, match="no scope"):
        await accounts.change_key(key.id, scopes=["root"])
    assert await accounts.change_key(NOBODY, name="x") is None


async def test_a_revoked_key_and_one_to_act_by_are_neither_changed_nor_rotated(accounts: Accounts, user: User) -> None:
    _, revoked = await accounts.create_key(name="r", user_id=user.id)
    await accounts.revoke_key(revoked.id)
    _, acting = await accounts.create_key(name="i", user_id=user.id, scopes=[IMPERSONATION], acted_by="anne")
    for key, why in ((revoked, "revoked"), (acting, "acts as its user")):
        with pytest.raises(Conflict, match=why):
            await accounts.change_key(key.id, name="x")
        with pytest.raises(Conflict, match=why):
            await accounts.rotate_key(key.id, timedelta(hours=1))


async def test_a_rotated_key_may_all_the_old_one_may_and_both_live_for_the_overlap(
    accounts: Accounts, user: User, recorded: Recorded
) -> None:
    old_full, old = await accounts.create_key(name="ci", user_id=user.id, scopes=[INFERENCE], limits=LIMITS)
    rotated = await accounts.rotate_key(old.id, timedelta(hours=1), by=ANNE)
    assert rotated is not None
    full, key = rotated
    assert full != old_full and key.id != old.id
    assert (key.name, key.user_id, key.scopes, key.expires_at) == ("ci", user.id, (INFERENCE,), None)
    ending = await accounts.find_key(old.id)
    assert ending is not None and ending.expires_at is not None and ending.revoked_at is None
    assert timedelta(minutes=50) < ending.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert [row[:3] for row in (await recorded())[-2:]] == [
        ("key.rotate", str(old.id), "anne"),
        ("key.create", str(key.id), "anne"),
    ]


async def test_a_line_of_rotated_keys_has_one_budget_and_one_set_of_windows(accounts: Accounts, user: User) -> None:
    _, first = await accounts.create_key(name="ci", user_id=user.id, limits=LIMITS)
    key = first
    for _ in range(3):
        rotated = await accounts.rotate_key(key.id, timedelta(hours=1))
        assert rotated is not None
        key = rotated[1]
    assert (key.rotated_from, key.counted_as) == (first.id, first.id)
    assert key.limits == first.limits
    changed = await accounts.change_key(key.id, limits=KeyLimits(windows=(Window(9, "requests", 60),)))
    assert changed is not None and changed.limits.owner == first.id


async def test_a_rotation_does_not_put_off_the_end_of_either_key(accounts: Accounts, user: User) -> None:
    until = datetime.now(UTC) + timedelta(minutes=5)
    _, old = await accounts.create_key(name="ci", user_id=user.id, expires_at=until)
    rotated = await accounts.rotate_key(old.id, timedelta(hours=1))
    ending = await accounts.find_key(old.id)
    assert rotated is not None and rotated[1].expires_at == until
    assert ending is not None and ending.expires_at == until


async def test_what_cannot_be_rotated_is_refused(accounts: Accounts, user: User) -> None:
    _, key = await accounts.create_key(name="x", user_id=user.id)
    with pytest.raises(ValueError, match="below zero"):
        await accounts.rotate_key(key.id, timedelta(seconds=-1))
    assert await accounts.rotate_key(NOBODY, timedelta(0)) is None
    await accounts.rotate_key(key.id, timedelta(0))
    with pytest.raises(Conflict, match="has expired"):
        await accounts.rotate_key(key.id, timedelta(0))


async def test_of_rotations_at_once_with_no_overlap_one_holds(accounts: Accounts, user: User) -> None:
    _, key = await accounts.create_key(name="x", user_id=user.id)
    outcomes = await asyncio.gather(
        *(accounts.rotate_key(key.id, timedelta(0)) for _ in range(8)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [*["Conflict"] * 7, "tuple"]


async def test_the_last_use_of_keys_is_noted_and_never_goes_back(accounts: Accounts, user: User) -> None:
    _, key = await accounts.create_key(name="x", user_id=user.id)
    await accounts.note_used({key.id: 1_800_000_000.0, NOBODY: 1.0})
    await accounts.note_used({key.id: 1_700_000_000.0})
    (noted,) = await accounts.list_keys()
    assert noted.last_used_at == datetime.fromtimestamp(1_800_000_000, UTC)

"""Acting as a user: a key that is marked, short, and on record on both sides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from accounts.keys import parse, proves
from accounts.store_sql import Accounts, Conflict
from accounts.users import User
from ledger.audit import Actor
from tests.accounts.conftest import Recorded

NOBODY = UUID(int=0)
ANNE = Actor("anne@example.org", "admin")
UNTIL = datetime(2199, 1, 1, tzinfo=UTC)


@pytest.fixture
async def user(accounts: Accounts) -> User:
    return await accounts.create_user(name="a")


async def act(accounts: Accounts, user: User, reason: str = "ticket") -> tuple[str, UUID]:
    made = await accounts.act_as(user.id, until=UNTIL, reason=reason, admin="id-of-anne", by=ANNE)
    assert made is not None
    return made[0], made[1].id


async def test_the_key_is_the_users_and_says_who_acts(accounts: Accounts, user: User) -> None:
    full, key_id = await act(accounts, user, "x" * 300)
    key, parts = await accounts.find_key(key_id), parse(full)
    assert key is not None and parts is not None and proves(accounts.pepper, parts.secret, key.digest)
    assert (key.user_id, key.acted_by, key.expires_at) == (user.id, "anne@example.org", UNTIL)
    assert key.scopes == ("impersonation", "inference", "account") and key.name == "x" * 200


async def test_it_is_recorded_under_the_user_and_under_the_admin(
    accounts: Accounts, user: User, recorded: Recorded
) -> None:
    full, key_id = await act(accounts, user)
    as_user, as_admin, created = (await recorded())[-3:]
    assert as_user[:3] == ("user.impersonate", str(user.id), "anne@example.org")
    assert as_admin[:3] == ("admin.impersonate", "id-of-anne", "anne@example.org")
    assert as_user[4]["key"] == as_admin[4]["key"] == created[1] == str(key_id)
    assert as_admin[4]["user"] == str(user.id) and as_user[4]["reason"] == "ticket"
    assert full[-49:] not in str(await recorded())


async def test_who_may_not_call_is_not_acted_for(accounts: Accounts, user: User) -> None:
    assert await accounts.act_as(NOBODY, until=UNTIL, reason="x", admin="a", by=ANNE) is None
    for status in ("suspended", "deleted"):
        await accounts.set_status(user.id, status)
        with pytest.raises(Conflict, match=status):
            await act(accounts, user)


async def test_times_are_listed_newest_first_and_other_keys_are_not(accounts: Accounts, user: User) -> None:
    other = await accounts.create_user(name="b")
    await accounts.create_key(name="own", user_id=user.id)
    made = [(await act(accounts, user))[1] for _ in range(3)]
    await act(accounts, other)
    seen: list[UUID] = []
    while page := await accounts.list_acting(user.id, before=seen[-1] if seen else None, limit=2):
        seen += [key.id for key in page]
    assert seen == made[::-1]


async def test_it_is_ended_once_and_only_what_it_is(accounts: Accounts, user: User, recorded: Recorded) -> None:
    other = await accounts.create_user(name="b")
    _, own = await accounts.create_key(name="own", user_id=user.id)
    _, key_id = await act(accounts, user)

    async def stop(who: UUID, which: UUID) -> bool:
        return await accounts.stop_acting(who, which, admin="id-of-bob", by=Actor("bob"))

    assert [await stop(user.id, own.id), await stop(other.id, key_id), await stop(user.id, NOBODY)] == [False] * 3
    assert [await stop(user.id, key_id), await stop(user.id, key_id)] == [True, False]
    key = await accounts.find_key(key_id)
    assert key is not None and key.revoked_at is not None
    assert abs(key.revoked_at - datetime.now(UTC)) < timedelta(minutes=1)
    as_user, as_admin = (await recorded())[-2:]
    assert as_user[:3] == ("user.impersonate_end", str(user.id), "bob") and as_admin[1] == "id-of-bob"
    assert as_user[3]["acted_by"] == "anne@example.org"

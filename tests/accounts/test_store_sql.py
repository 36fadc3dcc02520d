"""Users and keys in a real database: exactly one of each, and what is kept of a key is not the key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from accounts.keys import FORWARD_USERS, parse, proves
from accounts.store_sql import Accounts, AccountsUnavailable, PepperMismatch
from accounts.users import Sighting

NOBODY = UUID(int=0)


async def rows(engine: AsyncEngine, statement: str) -> list[Any]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def test_64_first_calls_of_a_user_make_one_user_and_one_wallet(engine: AsyncEngine, accounts: Accounts) -> None:
    seen = await asyncio.gather(*(accounts.sight(Sighting("r", "s", "a@b", "Ann")) for _ in range(64)))
    assert len({(user.id, user.wallet_id) for user in seen}) == 1
    assert await rows(engine, "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM wallets)") == [(1, 1)]


async def test_a_new_user_has_the_default_tier_and_an_empty_wallet_that_is_due(
    engine: AsyncEngine, accounts: Accounts
) -> None:
    user = await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    assert (user.tier, user.role, user.status, user.language) == ("free", "user", "active", "en")
    due = f"SELECT spendable, held, state, due_at = '-infinity' FROM wallets WHERE id = '{user.wallet_id}'"
    assert await rows(engine, due) == [(0, 0, "active", True)]


async def test_a_user_is_known_by_subject_and_realm_and_never_by_email(accounts: Accounts) -> None:
    first = await accounts.sight(Sighting("r", "s", "a@b"))
    assert (await accounts.sight(Sighting("r", "other", "a@b"))).id != first.id
    assert (await accounts.sight(Sighting("other", "s", "a@b"))).id != first.id
    assert (await accounts.sight(Sighting("r", "s", "new@b"))).id == first.id


async def test_email_and_name_are_followed_and_silence_erases_nothing(accounts: Accounts) -> None:
    await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    followed = await accounts.sight(Sighting("r", "s", "c@d", ""))
    assert (followed.email, followed.name) == ("c@d", "Ann")


async def test_an_unchanged_sighting_writes_nothing(engine: AsyncEngine, accounts: Accounts) -> None:
    await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    before = await rows(engine, "SELECT xmin FROM users")
    await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    assert await rows(engine, "SELECT xmin FROM users") == before


async def test_a_deleted_user_is_not_followed(accounts: Accounts) -> None:
    user = await accounts.sight(Sighting("r", "s", "a@b"))
    await accounts.set_status(user.id, "deleted")
    seen = await accounts.sight(Sighting("r", "s", "c@d"))
    assert (seen.status, seen.email) == ("deleted", "a@b")


async def test_a_user_is_found_by_id_subject_or_email(accounts: Accounts) -> None:
    user = await accounts.create_user(name="Ann", email="Ann@Example.com", subject="ann", tier="pro", role="vip")
    for who in (str(user.id), "ann", "ann@example.COM"):
        assert await accounts.find_user(who) == user
    assert await accounts.find_user("nobody") is None


async def test_an_email_two_users_share_finds_neither(accounts: Accounts) -> None:
    await accounts.create_user(name="a", email="x@y")
    await accounts.create_user(name="b", email="x@y")
    assert await accounts.find_user("x@y") is None


async def test_a_user_made_twice_under_one_subject_is_one(accounts: Accounts) -> None:
    first = await accounts.create_user(name="Ann", subject="ann")
    assert await accounts.create_user(name="Bob", subject="ann") == first


async def test_a_tier_change_makes_the_wallet_due(engine: AsyncEngine, accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE wallets SET due_at = 'infinity'"))
    changed = await accounts.set_tier(user.id, "pro")
    assert changed is not None and changed.tier == "pro"
    assert await rows(engine, "SELECT due_at = '-infinity' FROM wallets") == [(True,)]


async def test_nobody_can_be_changed_or_found(accounts: Accounts) -> None:
    assert await accounts.set_tier(NOBODY, "pro") is None
    assert await accounts.set_status(NOBODY, "suspended") is None
    assert await accounts.user(NOBODY) is None


async def test_a_subject_of_no_or_too_many_characters_is_refused(accounts: Accounts) -> None:
    for subject in ("", "x" * 256):
        with pytest.raises(ValueError, match="1 to 255"):
            await accounts.sight(Sighting("r", subject))


async def test_the_secret_of_a_key_is_not_in_the_database(engine: AsyncEngine, accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    full, key = await accounts.create_key(name="laptop", user_id=user.id)
    parts = parse(full)
    assert parts is not None and proves(accounts.pepper, parts.secret, key.digest)
    kept = str(await rows(engine, "SELECT * FROM api_keys"))
    assert parts.prefix in kept and full[-49:] not in kept and parts.secret.hex() not in kept


async def test_keys_are_found_many_at_once(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    made = [(await accounts.create_key(name=name, user_id=user.id))[1] for name in "ab"]
    found = await accounts.find_keys([*(key.prefix for key in made), "nothere"])
    assert found == {key.prefix: key for key in made}
    assert await accounts.list_keys(user.id) == made
    assert await accounts.list_keys(NOBODY) == []
    assert await accounts.list_keys(limit=1) == made[:1]


async def test_a_key_keeps_what_it_was_given(accounts: Accounts) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    _, key = await accounts.create_key(
        name="owui", scopes=[FORWARD_USERS], realm="openwebui", plain_headers=True, expires_at=until
    )
    assert (key.user_id, key.realm, key.plain_headers, key.expires_at) == (None, "openwebui", True, until)
    assert key.forwards_users


@pytest.mark.parametrize("scopes", [[], [FORWARD_USERS]])
async def test_a_key_that_speaks_for_nobody_is_refused(accounts: Accounts, scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="a key needs a user"):
        await accounts.create_key(name="x", scopes=scopes)


async def test_the_database_refuses_a_key_that_speaks_for_nobody(engine: AsyncEngine) -> None:
    statement = (
        "INSERT INTO api_keys (id, prefix, digest) VALUES (gen_random_uuid(), 'p', decode(repeat('00',32),'hex'))"
    )
    with pytest.raises(DBAPIError, match="speak_for_someone"):
        async with engine.begin() as connection:
            await connection.execute(text(statement))


async def test_a_key_is_revoked_once(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    _, key = await accounts.create_key(name="x", user_id=user.id)
    assert await accounts.revoke_key(key.id) and not await accounts.revoke_key(key.id)
    assert (await accounts.find_keys([key.prefix]))[key.prefix].revoked_at is not None


async def test_the_last_use_of_keys_is_noted_and_never_goes_back(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    _, key = await accounts.create_key(name="x", user_id=user.id)
    await accounts.note_used({key.id: 1_800_000_000.0, NOBODY: 1.0})
    await accounts.note_used({key.id: 1_700_000_000.0})
    (noted,) = await accounts.list_keys()
    assert noted.last_used_at == datetime.fromtimestamp(1_800_000_000, UTC)


async def test_a_replica_with_another_pepper_is_told_so(engine: AsyncEngine, accounts: Accounts) -> None:
    await accounts.check_pepper()
    await accounts.check_pepper()
    with pytest.raises(PepperMismatch, match="FAREBOX_KEY_PEPPER"):
        await Accounts(engine, pepper=b"q" * 32, default_tier="free").check_pepper()


async def test_a_database_that_is_away_is_told_in_our_words() -> None:
    engine = create_async_engine("postgresql+asyncpg://u@127.0.0.1:1/d")
    with pytest.raises(AccountsUnavailable, match="did not answer"):
        await Accounts(engine, pepper=b"p" * 32, default_tier="free").user(NOBODY)
    await engine.dispose()

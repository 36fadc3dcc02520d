"""Sessions: begun, renewed, ended."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admin_api.admin_accounts import AdminAccounts
from admin_api.logins import Logins, Try
from admin_api.sessions import Renewed, Sessions
from admin_api.tokens import Refresh, Tokens
from tests.admin_api.conftest import BY, MakeAccount

TOKENS = Tokens(b"p" * 32)
HERE = Try("ada@example.org", "192.0.2.1", "curl")


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return Sessions(engine, TOKENS)


async def begun(sessions: Sessions, admin_id: UUID) -> Renewed:
    """A session that has to begin."""
    renewed = await sessions.begin(admin_id, "h", HERE)
    assert renewed is not None
    return renewed


def presented(renewed: Renewed) -> Refresh:
    refresh = TOKENS.read_refresh(renewed.refresh_token)
    assert refresh is not None
    return refresh


async def renew(sessions: Sessions, renewed: Renewed) -> Renewed | None:
    """Use this refresh token."""
    return await sessions.renew(presented(renewed), HERE._replace(email=""), uuid4())


async def run(engine: AsyncEngine, statement: str) -> list[Any]:
    async with engine.begin() as connection:
        result = await connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


async def test_a_session_stands_with_the_accounts_role(sessions: Sessions, account: MakeAccount) -> None:
    ada = await account("ada", "support")
    renewed = await begun(sessions, ada.id)
    assert await sessions.standing(renewed.session_id) == (ada.id, renewed.session_id, ada.email, "support")
    assert await sessions.standing(uuid4()) is None


@pytest.mark.parametrize("news", [{"password_hash": "new"}, {"status": "suspended"}, {"status": "deleted"}], ids=str)
async def test_none_begins_for_an_account_that_changed_since_the_password_was_checked(
    engine: AsyncEngine, sessions: Sessions, account: MakeAccount, news: dict[str, str]
) -> None:
    ada = await account("ada")
    await AdminAccounts(engine).change(ada.id, expected=None, by=BY, **news)
    assert await sessions.begin(ada.id, "h", HERE) is None


async def test_a_login_beside_a_suspension_leaves_no_session(
    engine: AsyncEngine, sessions: Sessions, account: MakeAccount
) -> None:
    for number in range(10):
        ada = await account(f"ada{number}")
        change = AdminAccounts(engine).change(ada.id, expected=None, by=BY, status="suspended")
        renewed, _ = await asyncio.gather(sessions.begin(ada.id, "h", HERE), change)
        assert renewed is None or await sessions.standing(renewed.session_id) is None


async def test_a_refresh_token_gives_the_next_one_and_the_end_stays(sessions: Sessions, account: MakeAccount) -> None:
    first = await begun(sessions, (await account("ada")).id)
    second = await renew(sessions, first)
    assert second is not None and second.refresh_token != first.refresh_token
    assert (second.session_id, second.expires_at) == (first.session_id, first.expires_at)
    third = await renew(sessions, second)
    assert third is not None and presented(third).generation == 3


async def test_a_refresh_token_used_twice_ends_the_session_and_is_told(
    engine: AsyncEngine, sessions: Sessions, account: MakeAccount
) -> None:
    ada = await account("ada")
    first, other = await begun(sessions, ada.id), await begun(sessions, ada.id)
    second = await renew(sessions, first)
    assert second is not None and await renew(sessions, first) is None
    assert await renew(sessions, second) is None and await sessions.standing(first.session_id) is None
    assert await sessions.standing(other.session_id) is not None
    (login,) = await Logins(engine).page(ada.id)
    assert (login.outcome, login.email, login.address) == ("reused", ada.email, "192.0.2.1")
    audited = await run(engine, "SELECT action, target_id, actor FROM audit WHERE action LIKE 'session%'")
    assert audited == [("session.reused", str(ada.id), ada.email)]


async def test_two_who_use_a_token_at_once_both_lose_the_session(sessions: Sessions, account: MakeAccount) -> None:
    first = await begun(sessions, (await account("ada")).id)
    results = await asyncio.gather(*(renew(sessions, first) for _ in range(6)))
    assert sum(result is not None for result in results) == 1
    assert await sessions.standing(first.session_id) is None


async def test_an_ended_session_is_ended_once_and_by_its_owner_only(
    engine: AsyncEngine, sessions: Sessions, account: MakeAccount
) -> None:
    ada, bob = await account("ada"), await account("bob")
    renewed = await begun(sessions, ada.id)
    assert not await sessions.end(renewed.session_id, bob.id, "x", BY)
    assert await sessions.end(renewed.session_id, ada.id, "x", BY)
    assert not await sessions.end(renewed.session_id, ada.id, "x", BY)
    assert await renew(sessions, renewed) is None
    assert await run(engine, "SELECT outcome FROM admin_logins") == []


async def test_after_thirty_days_a_session_ends_by_itself(
    engine: AsyncEngine, sessions: Sessions, account: MakeAccount
) -> None:
    renewed = await begun(sessions, (await account("ada")).id)
    days = "round(extract(epoch FROM expires_at - created_at) / 86400)::int"
    assert await run(engine, f"SELECT {days} FROM admin_sessions") == [(30,)]
    await run(engine, "UPDATE admin_sessions SET expires_at = now()")
    assert await sessions.standing(renewed.session_id) is None and await renew(sessions, renewed) is None
    await sessions.sweep()
    assert len(await run(engine, "SELECT id FROM admin_sessions")) == 1
    await run(engine, "UPDATE admin_sessions SET expires_at = now() - interval '91 days'")
    await sessions.sweep()
    assert await run(engine, "SELECT id FROM admin_sessions") == []


async def test_the_oldest_makes_room_for_the_twenty_first(sessions: Sessions, account: MakeAccount) -> None:
    ada, bob = await account("ada"), await account("bob")
    his = await begun(sessions, bob.id)
    made = [(await begun(sessions, ada.id)).session_id for _ in range(22)]
    assert [each.id for each in await sessions.of(ada.id)] == made[:1:-1]
    assert await sessions.standing(his.session_id) is not None


async def test_the_database_has_no_token(engine: AsyncEngine, sessions: Sessions, account: MakeAccount) -> None:
    renewed = await begun(sessions, (await account("ada")).id)
    (row,) = await run(engine, "SELECT admin_sessions::text FROM admin_sessions")
    raw = renewed.refresh_token.removeprefix("fbr_")
    assert raw not in row[0] and presented(renewed).digest.hex() in row[0]

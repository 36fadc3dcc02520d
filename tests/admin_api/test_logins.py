"""The history of logins and the lock-out that goes by it."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admin_api.logins import PER_EMAIL, PER_PLACE, LockedOut, Logins, Try

ADA = Try("ada@example.org", "192.0.2.1", "curl")


@pytest.fixture
def logins(engine: AsyncEngine) -> Logins:
    return Logins(engine)


async def age(engine: AsyncEngine, minutes: float) -> None:
    """Let time pass over every try."""
    async with engine.begin() as connection:
        await connection.execute(text(f"UPDATE admin_logins SET at = at - interval '{minutes} minutes'"))


async def tried(logins: Logins, what: Try) -> int:
    """0 for a try that counted as one, else the seconds to wait."""
    try:
        await logins.begin(what, None)
    except LockedOut as locked:
        return locked.wait_s
    return 0


async def test_ten_wrong_tries_lock_an_address_out_whoever_tries(logins: Logins) -> None:
    for number in range(PER_EMAIL):
        assert await tried(logins, ADA._replace(address=f"192.0.2.{number}")) == 0
    assert 800 < await tried(logins, ADA._replace(address="203.0.113.1", email="ADA@Example.org")) <= 901
    assert await tried(logins, ADA._replace(email="bob@example.org")) == 0


async def test_thirty_wrong_tries_lock_a_place_out_whomever_it_tries(logins: Logins) -> None:
    for number in range(PER_PLACE):
        assert await tried(logins, ADA._replace(email=f"u{number}@example.org")) == 0
    assert await tried(logins, ADA) > 0
    assert await tried(logins, ADA._replace(address="192.0.2.2")) == 0


async def test_a_whole_network_of_one_household_is_one_place(logins: Logins) -> None:
    for number in range(PER_PLACE):
        await tried(logins, Try(f"u{number}@example.org", f"2001:db8::{number:x}"))
    assert await tried(logins, Try("new@example.org", "2001:db8::ffff")) > 0
    assert await tried(logins, Try("new@example.org", "2001:db8:0:1::1")) == 0


async def test_the_wait_ends_when_the_oldest_try_leaves_the_window(engine: AsyncEngine, logins: Logins) -> None:
    await tried(logins, ADA)
    await age(engine, 10)
    for _ in range(PER_EMAIL - 1):
        assert await tried(logins, ADA) == 0
    assert 200 < await tried(logins, ADA) <= 301
    await age(engine, 5)
    assert await tried(logins, ADA) == 0
    assert await tried(logins, ADA) > 500


async def test_what_was_right_or_no_try_does_not_count(logins: Logins) -> None:
    for _ in range(PER_EMAIL):
        await logins.finish(await logins.begin(ADA, None), "ok")
        await logins.forget(await logins.begin(ADA, None))
    assert await tried(logins, ADA) == 0


async def test_a_hundred_tries_at_once_are_counted_like_one_after_the_other(logins: Logins) -> None:
    results = await asyncio.gather(*(tried(logins, ADA) for _ in range(100)))
    assert results.count(0) == PER_EMAIL


async def test_many_accounts_from_many_places_at_once_wait_in_no_circle(logins: Logins) -> None:
    tries = [Try(f"u{who}@example.org", f"192.0.2.{where}") for who in range(5) for where in range(5)]
    results = await asyncio.gather(*(tried(logins, each) for each in tries * 2))
    assert results == [0] * 50


async def test_who_hammers_at_a_locked_door_does_not_fill_the_history(engine: AsyncEngine, logins: Logins) -> None:
    admin_id = uuid4()
    for _ in range(PER_EMAIL + 20):
        with contextlib.suppress(LockedOut):
            await logins.begin(ADA, admin_id)
    outcomes = [login.outcome for login in await logins.page(admin_id, limit=100)]
    assert outcomes == ["locked"] + ["wrong"] * PER_EMAIL
    await age(engine, 2)
    assert await tried(logins, ADA) > 0
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM admin_logins WHERE outcome = 'locked'")) == 2


async def test_the_history_is_the_accounts_own_and_comes_newest_first(logins: Logins) -> None:
    ada, bob = uuid4(), uuid4()
    mine: list[UUID] = [await logins.begin(ADA, who) for who in (ada, bob, ada, ada)]
    first = await logins.page(ada, limit=2)
    rest = await logins.page(ada, after=(first[-1].at, first[-1].id), limit=9)
    assert [each.id for each in (*first, *rest)] == [mine[3], mine[2], mine[0]]
    assert len(await logins.page(None, limit=9)) == 4
    assert (first[0].email, first[0].address, first[0].user_agent) == ADA


async def test_a_long_name_of_a_program_is_cut(logins: Logins) -> None:
    await logins.begin(ADA._replace(user_agent="x" * 5000), None)
    assert len((await logins.page(None))[0].user_agent) == 200


async def test_after_a_year_a_try_is_forgotten(engine: AsyncEngine, logins: Logins) -> None:
    await logins.begin(ADA, None)
    await age(engine, 366 * 24 * 60)
    await logins.begin(ADA, None)
    await logins.sweep()
    assert len(await logins.page(None)) == 1

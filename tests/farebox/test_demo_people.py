"""The demo's users and keys are made once, however often it is started."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import parse
from accounts.store_sql import Accounts
from farebox.demo_people import GUESTS, KeyRing, seat
from ledger.store_sql import PostgresBank, make_engine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url, size=2)
    yield engine
    await engine.dispose()


@pytest.fixture
def accounts(engine: AsyncEngine) -> Accounts:
    return Accounts(engine, pepper=b"p" * 32, default_tier="free")


async def test_seating_twice_gives_the_same_people_keys_and_money(
    engine: AsyncEngine, accounts: Accounts, tmp_path: Path
) -> None:
    bank, path = PostgresBank(engine, owner="test"), tmp_path / "keys.json"
    first = await seat(accounts, bank, KeyRing(path))
    assert await seat(accounts, bank, KeyRing(path)) == first
    assert set(first.guests) == {guest.tier for guest in GUESTS}
    async with engine.connect() as connection:
        counts = await connection.execute(
            text(
                "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM api_keys), (SELECT sum(amount) FROM grants)"
            )
        )
        assert tuple(counts.one()) == (len(GUESTS), len(GUESTS) + 1, 5 * 10**9)


async def test_a_fresh_database_is_told_the_keys_of_the_file(
    engine: AsyncEngine, accounts: Accounts, tmp_path: Path
) -> None:
    full = KeyRing(tmp_path / "keys.json").key("pro").full
    people = await seat(accounts, PostgresBank(engine, owner="test"), KeyRing(tmp_path / "keys.json"))
    assert people.guests["pro"].key == full
    presented = parse(full)
    assert presented is not None
    assert presented.prefix in await accounts.find_keys([presented.prefix])


async def test_the_service_key_forwards_users_named_in_plain_headers(
    engine: AsyncEngine, accounts: Accounts, tmp_path: Path
) -> None:
    people = await seat(accounts, PostgresBank(engine, owner="test"), KeyRing(tmp_path / "keys.json"))
    presented = parse(people.service_key)
    assert presented is not None
    key = (await accounts.find_keys([presented.prefix]))[presented.prefix]
    assert key.forwards_users and key.plain_headers and key.user_id is None


def test_a_ring_reads_back_what_it_wrote_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    minted = KeyRing(path).key("pro")
    assert KeyRing(path).key("pro") == minted
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_is_no_key_any_more_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"pro": "sk-fb-broken"}')
    assert parse(KeyRing(path).key("pro").full) is not None

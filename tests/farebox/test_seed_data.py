"""A seeded ledger is one the bank itself could have made: it verifies, and its statistics are what its charges say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from farebox.seed_data import Seeded, SeedError, months_until, person, seed_database
from ledger.engine import make_engine
from ledger.ids import floor
from ledger.reading import fetch
from ledger.roller import Roller
from ledger.rollup import TABLES
from ledger.verify import verify
from ledger.wallet import token_wallet_id

_USERS, _CHARGES = 2_000, 20_000


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url, size=2, command_timeout_s=120, lock_timeout_ms=120_000)
    yield engine
    await engine.dispose()


@pytest.fixture(scope="module")
async def seeded(module_database_url: str) -> AsyncIterator[tuple[AsyncEngine, list[int]]]:
    """A seeded database that nobody changes, and how its making was told."""
    engine = make_engine(module_database_url, size=2, command_timeout_s=120, lock_timeout_ms=120_000)
    yield engine, await _seed(engine, _USERS, _CHARGES)
    await engine.dispose()


async def _value(engine: AsyncEngine, query: str) -> Any:
    return (await fetch(engine, query))[0][0]


async def _seed(engine: AsyncEngine, users: int, charges: int, **more: Any) -> list[int]:
    told: list[int] = []
    await seed_database(engine, users, charges, progress=told.append, **more)
    return told


async def test_a_seeded_ledger_verifies_and_has_what_was_asked_for(seeded: tuple[AsyncEngine, list[int]]) -> None:
    engine, told = seeded
    assert sum(told) == _CHARGES
    assert [finding.line() for finding in await verify(engine) if not finding.holds] == []
    assert await _value(engine, "SELECT count(DISTINCT request_id) FROM charges") == _CHARGES
    assert await _value(engine, "SELECT count(*) FROM users") == _USERS
    assert await _value(engine, "SELECT count(*) FROM charges_to_roll") == 0
    for table in TABLES:
        assert await _value(engine, f"SELECT sum(calls) FROM {table}") == _CHARGES


async def test_it_has_a_bit_of_everything(seeded: tuple[AsyncEngine, list[int]]) -> None:
    engine, _ = seeded
    for rare in (
        "house", "overrun > 0", "currency = 'TOK'", "rev = 'provisional'", "task <> ''", "route <> 'chat.completions'",
        "outcome = 'recovered'", "outcome = 'caller_left'", "usage_source = 'counted'", "usage ? 'cache_read'",
    ):  # fmt: skip
        assert await _value(engine, f"SELECT count(*) FROM charges WHERE {rare}") > 0, rare
    assert await _value(engine, "SELECT count(DISTINCT model) FROM charges") == 20
    assert await _value(engine, "SELECT count(*) FROM holds WHERE state = 'voided'") > 0
    assert await _value(engine, "SELECT count(*) FROM refunds") > 0
    assert (
        await _value(
            engine, "SELECT min(members) FROM (SELECT count(*) AS members FROM group_members GROUP BY group_id) AS g"
        )
        > 10
    )
    assert await _value(engine, "SELECT sum(refusals) FROM refusals_by_hour") > 0
    assert await _value(engine, "SELECT sum(spendable) FROM wallets WHERE currency = 'USD'") > 0
    assert await _value(engine, "SELECT count(*) FROM (SELECT 1 FROM charges GROUP BY user_id) AS callers") > _USERS / 3


async def test_its_months_are_partitions_guarded_and_indexed_like_any_other(engine: AsyncEngine) -> None:
    await _seed(engine, 50, 600)
    assert await _value(engine, "SELECT count(*) FROM charges_default") == 0
    queries = {
        "indexes": "SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass",
        "triggers": "SELECT count(*) FROM pg_trigger WHERE tgrelid = $1::text::regclass",
        "constraints": "SELECT count(*) FROM pg_constraint WHERE conrelid = $1::text::regclass",
    }
    month = months_until(datetime.now(UTC), 600)[0].name
    for parent in ("holds", "charges", "journal_entries", "postings"):
        for what, query in queries.items():
            made, usual = [(await fetch(engine, query, name))[0][0] for name in (parent + month, f"{parent}_default")]
            assert made == usual, (parent, what)


async def test_nobody_calls_before_they_are_there_and_the_first_call_most(engine: AsyncEngine) -> None:
    await _seed(engine, 200, 5_000)
    early = "SELECT count(*) FROM charges c JOIN users u ON u.id = c.user_id WHERE c.at < u.created_at"
    assert await _value(engine, early) == 0
    first = "SELECT count(*) FROM charges c JOIN users u ON u.id = c.user_id WHERE u.subject = 'bench-{}'"
    assert await _value(engine, first.format(1)) > 10 * await _value(engine, first.format(190))


async def test_a_database_with_users_is_left_alone_unless_one_says_again(engine: AsyncEngine) -> None:
    await _seed(engine, 50, 600)
    with pytest.raises(SeedError, match="has users already"):
        await _seed(engine, 50, 600)
    await _seed(engine, 30, 400, again=True)
    assert await _value(engine, "SELECT count(*) FROM users") == 80
    assert [finding.line() for finding in await verify(engine) if not finding.holds] == []


async def test_what_is_charged_afterwards_is_counted_on_top(engine: AsyncEngine) -> None:
    await _seed(engine, 50, 600)
    await fetch(engine, "INSERT INTO charges_to_roll SELECT request_id, rev FROM charges LIMIT 3 RETURNING 1")
    assert await Roller(engine).roll() == 3
    assert await _value(engine, "SELECT sum(calls) FROM usage_by_month") == 603


async def test_a_month_that_already_has_rows_in_the_default_partition_is_an_error(engine: AsyncEngine) -> None:
    old = floor(datetime.fromtimestamp(months_until(datetime.now(UTC), 1)[2].begins / 1000 + 60, UTC))
    entry = "INSERT INTO journal_entries (id, kind, ref, booked_at) VALUES ($1, 'grant', 'x', now()) RETURNING 1"
    await fetch(engine, entry, old)
    with pytest.raises(SeedError, match="cannot be made"):
        await _seed(engine, 50, 600)


@pytest.mark.parametrize("now", [datetime(2026, 11, 21, 12, tzinfo=UTC), datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)])
def test_twelve_months_end_now_and_have_all_the_charges(now: datetime) -> None:
    months = months_until(now, 1_000_003)
    assert len(months) == 12 and sum(month.calls for month in months) == 1_000_003
    assert all(a.ends == b.begins and a.before + a.calls == b.before for a, b in pairwise(months))
    assert months[-1].ends == int(now.timestamp() * 1000) < months[-1].closes
    assert months[-1].name == now.strftime("_%Y%m")


def test_testers_pay_in_tokens_admins_not_at_all_and_tiers_have_their_markup() -> None:
    wallet, key = UUID(int=1), UUID(int=2)
    row = {"id": UUID(int=3), "wallet_id": wallet, "key_id": None}
    tokens = token_wallet_id(wallet)
    assert person(1, {**row, "tier": "tester"}, key)[2:7] == (tokens, "tester", "TOK", 1_000_000, False)
    assert person(1, {**row, "tier": "admin"}, key)[2:8] == (wallet, "admin", "USD", 1_000_000, True, key)
    assert person(1, {**row, "tier": "free"}, key)[4:6] == ("USD", 1_300_000)


def test_it_says_how_fast_it_was() -> None:
    assert Seeded(10, 1000, 2.0).sentence == "10 users and 1000 charges in 2 s (500 charges/s)."

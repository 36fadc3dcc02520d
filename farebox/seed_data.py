"""`farebox bench --seed-data`: a large ledger that verifies, made on the server itself, for measuring at size.

Users, wallets, prices and keys first, then month by month everything their calls leave behind: holds, charges, entries,
postings, the payments that cover them, and the roll-ups. Each month is one transaction, and the ledger is whole after
each. A month nobody has used is filled before its tables are indexed and attached, which is several times faster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from config.settings import Settings
from farebox import seed_month as month_sql
from farebox import seed_sql as sql
from farebox.migrate import upgrade
from farebox.seed_tables import attach, index, table_of
from farebox.serve import engines
from ledger.engine import make_engine
from ledger.months import PARENTS
from ledger.roller import WAIT_TURN
from ledger.rollup import TABLES
from ledger.wallet import token_wallet_id

MONTHS = 12
_SLICE = 100_000
_WORKERS = 2
_STATEMENT_S = 3600.0
_TOUCHED = (
    "users, wallets, api_keys, groups, group_members, grants, credits, refunds, holds, charges, journal_entries, "
    "postings, active_users, active_user_counts, refusals_by_hour, " + ", ".join(TABLES)
)
_MARKUP_PPM = {"free": 1_300_000, "basic": 1_200_000, "premium": 1_100_000}


_MONEY = (
    month_sql.FUNDS,
    month_sql.GRANTS,
    month_sql.GRANT_ENTRIES,
    month_sql.GRANT_POSTINGS,
    month_sql.CREDITS,
    month_sql.REFUNDS,
    month_sql.REFUND_ENTRIES,
    month_sql.REFUND_POSTINGS,
)


class SeedError(Exception):
    """The database cannot be seeded; the message says why."""


class Seeded(NamedTuple):
    """What was made, and how long it took."""

    users: int
    charges: int
    seconds: float

    @property
    def sentence(self) -> str:
        rate = self.charges / self.seconds
        return f"{self.users} users and {self.charges} charges in {self.seconds:.0f} s ({rate:.0f} charges/s)."


class Month(NamedTuple):
    """One month of the seeding: instants in ms (``ends``: where it is cut off, ``closes``: where its tables end), the
    number before its first call, and how many calls it has."""

    begins: int
    ends: int
    closes: int
    before: int
    calls: int

    @property
    def name(self) -> str:
        return _instant(self.begins).strftime("_%Y%m")


@dataclass(frozen=True, slots=True)
class Seeding:
    """What is to be made. ``known``: users seeded before; ``salt``: tells this seeding's calls from others'."""

    users: int
    charges: int
    known: int
    salt: int
    months: tuple[Month, ...]

    def numbers(self, month: Month) -> dict[str, Any]:
        """What the texts of ``seed_sql`` have in braces."""
        since = self.months[0].begins
        return {
            "users": self.users,
            "known": self.known,
            "salt": self.salt,
            "since": since,
            "span": self.months[-1].ends - since,
            "begins": month.begins,
            "lasts": month.ends - month.begins,
            "before": month.before,
            "calls": month.calls,
            "ending": month is self.months[-1],
        }


async def seed(settings: Settings, users: int, charges: int, *, again: bool, progress: Callable[[int], None]) -> Seeded:
    """Seed the database the settings name; ``progress`` is told each time so many charges more are there.

    Raises SeedError when it has users already, unless ``again``.
    """
    async with engines(settings) as urls:
        await upgrade(urls.database)
        engine = make_engine(
            urls.database,
            size=_WORKERS,
            command_timeout_s=_STATEMENT_S,
            lock_timeout_ms=int(_STATEMENT_S * 1000),
            name="farebox bench",
        )
        try:
            return await seed_database(engine, users, charges, again=again, progress=progress)
        finally:
            await engine.dispose()


async def seed_database(
    engine: AsyncEngine, users: int, charges: int, *, again: bool = False, progress: Callable[[int], None]
) -> Seeded:
    """As ``seed``, over an engine with at least two connections and patient with long statements."""
    begun = time.monotonic()
    async with _session(engine) as driver:
        known = await _known_users(driver, again=again)
        months = months_until(datetime.now(UTC), charges)
        seeding = Seeding(users, charges, known, months[0].calls + known * 1_000_003, months)
        people, models = await _make_people(driver, seeding)
    waiting = list(months)
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(_WORKERS):
                workers.create_task(_work(engine, seeding, waiting, people, models, progress))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    async with _session(engine) as driver:
        await driver.execute(f"VACUUM (ANALYZE) {_TOUCHED}")
    return Seeded(users, charges, time.monotonic() - begun)


def months_until(now: datetime, charges: int) -> tuple[Month, ...]:
    """The last twelve months, this one up to now, with so many calls as their share of the time is."""
    index = now.year * 12 + now.month
    firsts = [_first(each) for each in range(index - MONTHS, index + 1)]
    ends = [*firsts[1:-1], _millis(now)]
    span = ends[-1] - firsts[0]
    before = [charges * (first - firsts[0]) // span for first in firsts[:-1]] + [charges]
    return tuple(Month(firsts[n], ends[n], firsts[n + 1], before[n], before[n + 1] - before[n]) for n in range(MONTHS))


def _first(index: int) -> int:
    """The first instant, in ms, of the month after so many since the year 0."""
    return _millis(datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC))


def _millis(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _instant(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


@asynccontextmanager
async def _session(engine: AsyncEngine) -> AsyncIterator[Any]:
    async with engine.connect() as pooled:
        driver = (await pooled.get_raw_connection()).driver_connection
        assert driver is not None
        yield driver


async def _known_users(driver: Any, *, again: bool) -> int:
    """How many users were seeded before. Raises SeedError where there are users and nobody said ``again``."""
    if not again and await driver.fetchval("SELECT EXISTS (SELECT FROM users)"):
        raise SeedError("this database has users already; seed an empty one, or say --again to add to it")
    found = await driver.fetchval("SELECT max(substr(subject, 7)::bigint) FROM users WHERE realm = 'bench'")
    return int(found or 0)


async def _make_people(driver: Any, seeding: Seeding) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Users, wallets, keys and prices, in one transaction: what the calls of each month are drawn from."""
    numbers = seeding.numbers(seeding.months[0])
    async with driver.transaction():
        await driver.execute(sql.PEOPLE.format(**numbers))
        await driver.execute(sql.KEYS.format(**numbers))
        await driver.execute(sql.GROUPS.format(**numbers))
        service = await driver.fetchval(sql.SERVICE_KEY.format(**numbers))
        rows = await driver.fetch(sql.PEOPLE_MADE.format(**numbers))
        await driver.execute(sql.TOKEN_WALLETS, *_token_wallets(rows))
        prices = await driver.fetch(sql.PRICES.format(**numbers))
    people = [person(rank, row, service) for rank, row in enumerate(rows, 1)]
    models = [
        (rank, row["model_id"], row["version"], row["input"], row["cached"], row["output"])
        for rank, row in enumerate(prices, 1)
    ]
    return people, models


def _token_wallets(rows: list[Any]) -> tuple[list[UUID], list[UUID]]:
    money = [row["wallet_id"] for row in rows if row["tier"] == "tester"]
    return [token_wallet_id(wallet) for wallet in money], money


def person(rank: int, row: Any, service: UUID) -> tuple[Any, ...]:
    """A row of ``seed_people``: testers pay in tokens, admins not at all, and each tier has its markup."""
    by_tokens = row["tier"] == "tester"
    wallet = token_wallet_id(row["wallet_id"]) if by_tokens else row["wallet_id"]
    return (
        rank,
        row["id"],
        wallet,
        row["tier"],
        "TOK" if by_tokens else "USD",
        _MARKUP_PPM.get(row["tier"], 1_000_000),
        row["tier"] == "admin",
        row["key_id"] or service,
    )


async def _work(
    engine: AsyncEngine,
    seeding: Seeding,
    waiting: list[Month],
    people: list[tuple[Any, ...]],
    models: list[tuple[Any, ...]],
    progress: Callable[[int], None],
) -> None:
    """Make one month after the other until none is waiting."""
    async with _session(engine) as driver:
        await driver.execute(sql.SETTINGS)
        await driver.execute(month_sql.TEMPORARY)
        await driver.copy_records_to_table("seed_people", records=people)
        await driver.copy_records_to_table("seed_models", records=models)
        await driver.execute("ANALYZE seed_people")
        while waiting:
            month = waiting.pop()
            try:
                async with driver.transaction():
                    await _make_month(driver, month, seeding.numbers(month), progress)
            except asyncpg.CheckViolationError as refused:
                raise SeedError(f"the month of {_instant(month.begins):%Y-%m} cannot be made: {refused}") from refused
        await driver.execute(month_sql.TIDY)


async def _make_month(driver: Any, month: Month, numbers: dict[str, Any], progress: Callable[[int], None]) -> None:
    tables = {parent: await table_of(driver, parent, month.name) for parent in PARENTS}
    await driver.execute("TRUNCATE seed_calls, seed_funds")
    for first in range(month.before + 1, month.before + month.calls + 1, _SLICE):
        last = min(first + _SLICE - 1, month.before + month.calls)
        some = {**numbers, **tables, "first": first, "last": last}
        for text in (month_sql.CALLS, month_sql.HOLDS, month_sql.CHARGES, month_sql.ENTRIES, month_sql.POSTINGS):
            await driver.execute(text.format(**some))
        progress(last - first + 1)
    for text in _MONEY:
        await driver.execute(text.format(**numbers, **tables))
    for parent, table in tables.items():
        if table != parent:
            await index(driver, parent, table)
    await driver.fetchval(WAIT_TURN)
    for text in (
        month_sql.WALLETS,
        *map(month_sql.rollup, TABLES),
        month_sql.ACTIVE,
        month_sql.REFUSALS.format(**numbers),
    ):
        await driver.execute(text)
    for parent, table in tables.items():
        if table != parent:
            await attach(driver, parent, table, _instant(month.begins), _instant(month.closes))

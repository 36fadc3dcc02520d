"""Counts posted charges into the statistics: takes them off ``charges_to_roll`` and adds them up, in one transaction.

A charge is put on the queue by the transaction that posts it and leaves it in the one that counts it, so it is counted
exactly once whatever dies in between. Every replica tries each second, and a busy one each five: who calls often is
then written once for several calls. One at a time has the turn. The roller has a connection of its own: whether it
fails, waits or lags, no call notices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.engine import make_engine
from ledger.price import BY_TOKENS, TOKEN_PRICE, Price, Rates
from ledger.rollup import TABLES, Counted, Rollup, measures, rolled
from ledger.usage import Usage

_log = logging.getLogger("farebox.ledger")
_ROUND_S = 1.0
_BUSY = 100  # charges in a round
_BUSY_ROUNDS = 5  # so many times a round's rest, then
_AT_ONCE = 20_000  # more than a busy round: who calls often is written once for all of it
_PIECE = 500  # of those with a markup: a few milliseconds of the process
_LATE_S = 60.0
_TIMEOUT_S = 60.0

TURN = "SELECT pg_try_advisory_xact_lock(hashtext('farebox.rollup'))"

WAIT_TURN = "SELECT pg_advisory_xact_lock(hashtext('farebox.rollup'))"

ROLL = "SELECT taken, since, left_ids, left_revs FROM roll_charges($1)"
"""Counts so many charges but those with a markup, which it takes off the queue for others to count."""

# By the bounds of the ids only the months they are of are opened.
CHARGES = """
    SELECT request_id, rev, user_id, tier, model, task, currency, usage::text AS usage, amount, overrun, house,
           price_version, factor_ppm, variant
    FROM charges
    WHERE request_id = ANY ($1::uuid[]) AND request_id >= $2 AND request_id <= $3
"""

PRICES = "SELECT version, model_id, doc::text AS doc FROM prices WHERE version = ANY ($1::bigint[])"

ACTIVE = """
    WITH added AS (
        INSERT INTO active_users (period, starts, user_id) SELECT * FROM unnest($1::text[], $2::date[], $3::uuid[])
        ON CONFLICT DO NOTHING RETURNING period, starts
    )
    INSERT INTO active_user_counts AS known (period, starts, users)
    SELECT period, starts, count(*) FROM added GROUP BY period, starts
    ON CONFLICT (period, starts) DO UPDATE SET users = known.users + excluded.users
"""

_TYPES = {"hour": "timestamptz", "day": "date", "month": "date", "year": "date", "user_id": "uuid"}


class Taken(NamedTuple):
    """What one round took off the queue: how many charges, and when the first of them was posted."""

    charges: int
    since: datetime | None


class Roller:
    """``lag_s`` is how old the oldest charge of the last round was: how far the statistics are behind."""

    def __init__(self, engine: AsyncEngine, *, round_s: float = _ROUND_S, at_once: int = _AT_ONCE) -> None:
        self._engine = engine
        self._round_s = round_s
        self._at_once = at_once
        self._prices: dict[int, Price] = {BY_TOKENS: TOKEN_PRICE}
        self._task: asyncio.Task[None] | None = None
        self.lag_s = 0.0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def roll(self) -> int:
        """Count what is queued, at most ``at_once`` charges; how many there were. Raises what the driver raises."""
        async with self._engine.connect() as pooled:
            driver = (await pooled.get_raw_connection()).driver_connection
            assert driver is not None
            async with driver.transaction():
                if not await driver.fetchval(TURN):
                    return 0
                taken = await self._count(driver)
        self._note(taken)
        return taken.charges

    async def _run(self) -> None:
        while True:
            taken = await self._safely()
            if taken < self._at_once:
                await asyncio.sleep(self._round_s * (_BUSY_ROUNDS if taken >= _BUSY else 1))

    async def _safely(self) -> int:
        try:
            return await self.roll()
        except Exception as failure:
            _log.warning("statistics put off", extra={"reason": f"{type(failure).__name__}: {failure}"})
            return 0

    async def _count(self, driver: Any) -> Taken:
        taken, since, ids, revs = await driver.fetchrow(ROLL, self._at_once)
        marked = list(zip(ids or (), revs or (), strict=True))
        for start in range(0, len(marked), _PIECE):
            piece = marked[start : start + _PIECE]
            charges = counted(piece, await _charges(driver, [request_id for request_id, _ in piece]))
            await write(driver, rolled(charges, await self._priced(driver, charges)))
        return Taken(taken, since)

    async def _priced(self, driver: Any, charges: Sequence[Counted]) -> dict[int, Price]:
        """The prices that explain these charges. A version means the same for ever, so it is read once."""
        missing = {charge.price_version for charge in charges} - self._prices.keys()
        for row in await driver.fetch(PRICES, list(missing)) if missing else ():
            rates = msgspec.json.decode(row["doc"], type=Rates)
            self._prices[row["version"]] = Price.of(row["version"], row["model_id"], rates)
        return self._prices

    def _note(self, taken: Taken) -> None:
        self.lag_s = (datetime.now(UTC) - taken.since).total_seconds() if taken.since else 0.0
        if self.lag_s > _LATE_S:
            _log.warning("statistics lag behind", extra={"lag_s": round(self.lag_s), "charges": taken.charges})


@asynccontextmanager
async def rolling(database_url: str) -> AsyncIterator[Roller]:
    """A roller at work, on a connection of its own, until the block ends."""
    engine = make_engine(database_url, size=1, command_timeout_s=_TIMEOUT_S, name="farebox statistics", ask_first=True)
    roller = Roller(engine)
    roller.start()
    try:
        yield roller
    finally:
        await roller.stop()
        await engine.dispose()


def counted(taken: Sequence[tuple[UUID, str]], charges: Sequence[Any]) -> list[Counted]:
    """The charges that were taken, and with each final one what its call's provisional one has to give back."""
    known = {(row["request_id"], row["rev"]): row for row in charges}
    found = []
    for request_id, rev in taken:
        if (request_id, rev) in known:
            found.append(_counted(known[request_id, rev], 1))
        if rev != "provisional" and (request_id, "provisional") in known:
            found.append(_counted(known[request_id, "provisional"], -1))
    return found


async def write(driver: Any, rollup: Rollup) -> None:
    """Add these sums to the tables, inside the caller's transaction."""
    for table, sums in rollup.sums.items():
        rows = [(*key, *values[: len(measures(table))]) for key, values in sums.items() if any(values)]
        if rows:
            await driver.execute(upsert(table), *map(list, zip(*rows, strict=True)))
    if rollup.active:
        await driver.execute(ACTIVE, *map(list, zip(*rollup.active, strict=True)))


def upsert(table: str) -> str:
    """The statement that adds rows, given by column, to a table of sums."""
    keys, sums = TABLES[table], measures(table)
    kinds = [*(_TYPES.get(key, "text") for key in keys), *("bigint" for _ in sums)]
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(kinds, 1))
    more = ", ".join(f"{column} = known.{column} + excluded.{column}" for column in sums)
    return (
        f"INSERT INTO {table} AS known ({', '.join((*keys, *sums))}) SELECT * FROM unnest({arrays}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {more}"
    )


async def _charges(driver: Any, ids: Sequence[UUID]) -> list[Any]:
    return list(await driver.fetch(CHARGES, ids, min(ids), max(ids)))


def _counted(row: Any, sign: int) -> Counted:
    return Counted(
        request_id=row["request_id"],
        user_id=row["user_id"],
        tier=row["tier"],
        model=row["model"],
        task=row["task"],
        currency=row["currency"],
        usage=_usage(row["usage"]),
        amount=row["amount"],
        overrun=row["overrun"],
        house=row["house"],
        price_version=row["price_version"],
        factor_ppm=row["factor_ppm"],
        variant=row["variant"],
        sign=sign,
    )


def _usage(text: str) -> Usage:
    """What was used, by the kinds that are known: statistics do not stop at a stranger, verify names it."""
    try:
        return msgspec.json.decode(text, type=Usage)
    except msgspec.MsgspecError:
        return Usage()

"""Sealing a month: the ledger is verified, the month's rows are hashed in order, its sums are put on record, and the
database lets nobody change them any more.

All of it is one transaction, in which the month's tables take no writes: nobody waits for that in a month that is over.
Rows pass through as a stream: a month of any size takes no memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date
from hashlib import sha256
from typing import Any

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger import months, rollup_check
from ledger.audit import Actor, Change, append
from ledger.seal_sums import copied, put_on_record
from ledger.table_locks import take_tables
from ledger.verify import verify

NEWEST = 2
"""So many months, this one included, are never sealed: late words and corrections still come into them."""

_RUNNING = """
    SELECT count(*) AS holds, max(release_at) AS until FROM holds
    WHERE id >= $1 AND id < $2 AND state IN ('open', 'quarantine')
"""
_STRAYS = """
    SELECT EXISTS (SELECT FROM holds_default WHERE id >= $1 AND id < $2)
        OR EXISTS (SELECT FROM charges_default WHERE request_id >= $1 AND request_id < $2)
        OR EXISTS (SELECT FROM journal_entries_default WHERE id >= $1 AND id < $2)
        OR EXISTS (SELECT FROM postings_default WHERE entry_id >= $1 AND entry_id < $2)
"""
_QUEUED = "SELECT EXISTS (SELECT FROM charges_to_roll WHERE request_id >= $1 AND request_id < $2)"
_PARTITIONS = """
    SELECT count(*) FROM pg_inherits WHERE inhrelid = ANY (
        SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
"""
_COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""
_SEAL = "SELECT state, hash, sums_hash, facts::text AS facts FROM month_seals WHERE month = $1 FOR UPDATE"
_INSERT = """
    INSERT INTO month_seals (month, state, hash, sums_hash, facts, charged, actor, sealed_at)
    VALUES ($1, 'sealed', $2, $3, $4::text::jsonb, $5::text::jsonb, $6, $7)
"""


class MonthRefused(Exception):
    """What was asked of a month cannot be done; the message says why."""


class Facts(msgspec.Struct, frozen=True):
    """One table of a month: how many rows, and the columns the hash is over."""

    rows: int
    columns: list[str]


@dataclass(frozen=True, slots=True)
class Seal:
    """A sealed month: the hash over its rows, and how many each table has."""

    month: date
    hash: bytes
    rows: dict[str, int]


async def seal(engine: AsyncEngine, month: date, by: Actor) -> Seal:
    """Verify the ledger and seal a month of it, over an engine with two connections at least.

    Raises MonthRefused while something of the month may still change or the ledger does not add up, TablesBusy while
    somebody writes to the month.
    """
    async with session(engine) as connection, connection.transaction():
        await _close_for_writing(connection, month)
        await _refuse(connection, month)
        broken = [finding.line() for finding in await verify(engine) if not finding.holds]
        if broken:
            raise MonthRefused("the ledger does not verify:\n" + "\n".join(broken))
        facts, digest = await digest_of(connection, month)
        sums = await _put_sums_on_record(connection, month, facts, digest, by)
        for child in months.tables(month):
            await connection.execute("SELECT close_partition($1)", child)
        rows = {parent: each.rows for parent, each in facts.items()}
        after = {"hash": digest.hex(), "sums": sums.hex(), "rows": rows}
        await append(connection, by, Change("month.seal", "month", months.name(month), None, after))
    return Seal(month, digest, rows)


@asynccontextmanager
async def session(engine: AsyncEngine) -> AsyncIterator[Any]:
    """An asyncpg connection out of the engine's pool."""
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        yield connection


async def unseal(connection: Any, month: date, by: Actor) -> None:
    """Take the seal off a month that is attached, so that it can be corrected and sealed again."""
    async with connection.transaction():
        if (await known(connection, month)) != "sealed":
            raise MonthRefused(f"{months.name(month)} is not sealed, or it is detached: attach it first")
        for child in months.tables(month):
            await connection.execute("SELECT open_partition($1)", child)
        for table in ("month_postings", "month_budgets", "month_seals"):
            await connection.execute(f"DELETE FROM {table} WHERE month = $1", month)
        await append(connection, by, Change("month.unseal", "month", months.name(month)))


async def known(connection: Any, month: date) -> str:
    """``sealed`` or ``detached``; "" for a month without a seal. Locks the seal inside a transaction."""
    row = await connection.fetchrow(_SEAL, month)
    return row["state"] if row is not None else ""


async def check_seal(connection: Any, month: date) -> Seal:
    """Hash the month's rows, attached or not, and compare: the seal. Raises MonthRefused where they differ, or where a
    table or a column of then is not there."""
    row = await connection.fetchrow(_SEAL, month)
    if row is None:
        raise MonthRefused(f"{months.name(month)} is not sealed")
    told = msgspec.json.decode(row["facts"], type=dict[str, Facts])
    await _there(connection, month, told)
    facts, digest = await digest_of(connection, month, {parent: each.columns for parent, each in told.items()})
    rows = {parent: each.rows for parent, each in facts.items()}
    if digest != row["hash"]:
        differ = [f"{each} {told[each].rows} then, {rows[each]} now" for each in told if told[each].rows != rows[each]]
        said = "; rows of " + ", ".join(differ) if differ else ""
        raise MonthRefused(f"the rows of {months.name(month)} are not those that were sealed{said}")
    return Seal(month, digest, rows)


async def digest_of(
    connection: Any, month: date, columns: dict[str, list[str]] | None = None
) -> tuple[dict[str, Facts], bytes]:
    """What the month's tables have, and the hash over all of it: of each table its name, its columns, and its rows in
    the order of its key, as the server writes them for COPY."""
    whole, facts = sha256(), {}
    for parent, key in months.PARENTS.items():
        child = months.table(parent, month)
        named = columns[parent] if columns else [row[0] for row in await connection.fetch(_COLUMNS, child)]
        digest, rows = await copied(connection, f"SELECT {', '.join(named)} FROM {child} ORDER BY {', '.join(key)}")
        whole.update(msgspec.json.encode([parent, named, digest.hex()]))
        facts[parent] = Facts(rows, named)
    return facts, whole.digest()


async def _close_for_writing(connection: Any, month: date) -> None:
    """Let nobody write into the month's tables until the transaction ends, however long its own work takes. Raises
    MonthRefused where they are not there."""
    await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    try:
        await take_tables(connection, *months.tables(month), mode="SHARE ROW EXCLUSIVE")
    except asyncpg.UndefinedTableError:
        raise MonthRefused(f"{months.name(month)} has no tables here") from None


async def _refuse(connection: Any, month: date) -> None:
    """Raise MonthRefused while something of the month may still change."""
    label, ids = months.name(month), months.bounds(month)
    newest = months.plus(months.month_of(await connection.fetchval("SELECT now()")), 1 - NEWEST)
    if month >= newest:
        oldest = months.name(months.plus(newest, -1))
        raise MonthRefused(f"{label} is too young: the newest month that can be sealed is {oldest}")
    if (state := await known(connection, month)) != "":
        raise MonthRefused(f"{label} is {state} already")
    if await connection.fetchval(_PARTITIONS, list(months.tables(month))) != len(months.PARENTS):
        raise MonthRefused(f"the tables of {label} are not attached")
    running = await connection.fetchrow(_RUNNING, *ids)
    if running["holds"]:
        raise MonthRefused(
            f"{running['holds']} calls of {label} still hold money, until {running['until']:%Y-%m-%d %H:%M} UTC at the "
            "latest: a charge may still come"
        )
    if await connection.fetchval(_STRAYS, *ids):
        raise MonthRefused(f"rows of {label} stand in a default partition: `farebox partitions home` moves them")
    if await connection.fetchval(_QUEUED, *ids):
        raise MonthRefused(f"charges of {label} still wait for the statistics: a running Farebox counts them")


async def _put_sums_on_record(connection: Any, month: date, facts: dict[str, Facts], digest: bytes, by: Actor) -> bytes:
    charged = await rollup_check.charged_in(connection, month)
    now = (await connection.fetchval("SELECT clock_timestamp()")).astimezone(UTC)
    told = (_json(facts), _json(charged), by.name, now)
    await connection.execute(_INSERT, month, digest, bytes(32), *told)
    sums = await put_on_record(connection, month, *months.bounds(month))
    await connection.execute("UPDATE month_seals SET sums_hash = $2 WHERE month = $1", month, sums)
    return sums


async def _there(connection: Any, month: date, told: dict[str, Facts]) -> None:
    for parent, each in told.items():
        child = months.table(parent, month)
        if await connection.fetchval("SELECT to_regclass($1) IS NULL", child):
            raise MonthRefused(f"{child} is not in this database: restore it from its dump first")
        have = {row[0] for row in await connection.fetch(_COLUMNS, child)}
        if missing := sorted(set(each.columns) - have):
            raise MonthRefused(f"{child} has no column {', '.join(missing)} any more, which its seal is over")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

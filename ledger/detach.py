"""Taking a sealed month's tables off the ledger, and putting them back.

Detached tables stay in the database under their names, closed to changes, until an operator dumps and drops them; the
ledger goes on with the sums their seal carries. Months leave oldest first and come back newest first, so that no row
refers to one that is not there. Only the catalogue changes, in one transaction that waits for its locks a second at
most, and so does whoever stands behind it: a partition cannot leave CONCURRENTLY where there is a default one.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from ledger import months
from ledger.audit import Actor, Change, append
from ledger.seal import MonthRefused, Seal, check_seal, known
from ledger.seal_sums import ORDERED
from ledger.table_locks import take_tables

NEWEST = 3
"""So many months, this one included, are never detached: calls may still run from one into the next."""

_ATTACHED = """
    SELECT to_date(right(c.relname, 6), 'YYYYMM') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'charges'::regclass AND c.relname ~ '^charges_[0-9]{6}$' ORDER BY 1
"""
_DETACHED = "SELECT month FROM month_seals WHERE state = 'detached' ORDER BY month DESC LIMIT 1"
_POINTING_IN = """
    SELECT request_id FROM charges
    WHERE request_id >= $2 AND request_id < $3 AND entry_id >= $1 AND entry_id < $2 LIMIT 1
"""
_MISSING_COLUMNS = """
    SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod), 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
                     CASE WHEN attnotnull THEN 'NOT NULL' END)
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN (
        SELECT attname FROM pg_attribute WHERE attrelid = $2::text::regclass AND attnum > 0 AND NOT attisdropped)
"""
_GONE = """
    UPDATE month_seals SET state = 'detached', ordered = $2::text::jsonb, detached_at = clock_timestamp()
    WHERE month = $1
"""
_BACK = "UPDATE month_seals SET state = 'sealed', ordered = NULL, detached_at = NULL WHERE month = $1"


async def detach(connection: Any, month: date, by: Actor, *, refundable_days: int = 90) -> Seal:
    """Detach a sealed month whose rows are still those that were sealed, on an asyncpg connection.

    Raises MonthRefused where it is not the oldest, too young, not sealed, or could still be refunded (calls of a
    detached month cannot be: ``refundable_days`` after its end); TablesBusy where a long reader is in the way.
    """
    await _may_leave(connection, month, refundable_days)
    seal = await check_seal(connection, month)
    async with connection.transaction():
        await _have(connection, month)
        if await known(connection, month) != "sealed":
            raise MonthRefused(f"{months.name(month)} is not sealed any more")
        for parent in months.PARENTS:
            await connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {months.table(parent, month)}")
        row = await connection.fetchrow(ORDERED, *months.bounds(month))
        ordered = {name: int(value) for name, value in row.items()}
        await connection.execute(_GONE, month, msgspec.json.encode(ordered).decode())
        after = {"hash": seal.hash.hex(), "rows": seal.rows, "ordered": ordered}
        await append(connection, by, Change("month.detach", "month", months.name(month), None, after))
    return seal


async def attach(connection: Any, month: date, by: Actor) -> Seal:
    """Put a detached month back, if its rows are those that were sealed; it stays sealed.

    Raises MonthRefused where they are not, where its tables are not in the database, or where a newer month is
    detached; TablesBusy as ``detach``.
    """
    await _may_come_back(connection, month)
    seal = await check_seal(connection, month)
    await _columns_of_today(connection, month)
    await _bound(connection, month)
    async with connection.transaction():
        await _have(connection, month)
        if await known(connection, month) != "detached":
            raise MonthRefused(f"{months.name(month)} is not detached any more")
        first, end = months.bounds(month)
        for parent in months.PARENTS:
            child = months.table(parent, month)
            await connection.execute(
                f"ALTER TABLE {parent} ATTACH PARTITION {child} FOR VALUES FROM ('{first}') TO ('{end}')"
            )
            await connection.execute(f"ALTER TABLE {child} DROP CONSTRAINT {child}_bounds")
        await connection.execute(_BACK, month)
        after = {"hash": seal.hash.hex(), "rows": seal.rows}
        await append(connection, by, Change("month.attach", "month", months.name(month), None, after))
    return seal


async def _have(connection: Any, month: date) -> None:
    """Lock what leaving and coming back change, parents first, as bookings do."""
    defaults = [f"{parent}_default" for parent in months.PARENTS]
    await take_tables(connection, *months.PARENTS, *defaults, *months.tables(month))


async def _may_leave(connection: Any, month: date, refundable_days: int) -> None:
    label, state = months.name(month), await known(connection, month)
    if state != "sealed":
        raise MonthRefused(f"{label} is detached already" if state else f"{label} is not sealed: seal it first")
    attached = [row[0] for row in await connection.fetch(_ATTACHED)]
    if month != attached[0]:
        raise MonthRefused(f"months leave oldest first, and the oldest is {months.name(attached[0])}")
    now = await connection.fetchval("SELECT now()")
    if month > (newest := months.plus(months.month_of(now), -NEWEST)):
        raise MonthRefused(f"{label} is too young: the newest month that can be detached is {months.name(newest)}")
    age = (now - months.begins(months.plus(month, 1))).days
    if age < refundable_days:
        raise MonthRefused(
            f"{label} ended {age} days ago, and its calls may be refunded for {refundable_days}: afterwards they cannot"
        )
    first, end = months.bounds(month)
    if call := await connection.fetchval(_POINTING_IN, first, end, months.bounds(months.plus(month, 1))[1]):
        raise MonthRefused(f"call {call} of the next month is booked in {label}: they can only leave together")


async def _may_come_back(connection: Any, month: date) -> None:
    if await known(connection, month) != "detached":
        raise MonthRefused(f"{months.name(month)} is not detached")
    if month != (newest := await connection.fetchval(_DETACHED)):
        raise MonthRefused(f"months come back newest first, and the newest is {months.name(newest)}")


async def _columns_of_today(connection: Any, month: date) -> None:
    """Raise MonthRefused where a release has added columns since the month left."""
    for parent in months.PARENTS:
        child = months.table(parent, month)
        if missing := [row[0] for row in await connection.fetch(_MISSING_COLUMNS, parent, child)]:
            said = ", ".join(f"ADD COLUMN {each}" for each in missing)
            raise MonthRefused(f"{parent} has columns that {child} has not yet: ALTER TABLE {child} {said}")


async def _bound(connection: Any, month: date) -> None:
    """Let the database know that all rows are of this month, before anybody has to wait while it finds out."""
    first, end = months.bounds(month)
    for parent, key in months.PARENTS.items():
        child = months.table(parent, month)
        await connection.execute(f"ALTER TABLE {child} DROP CONSTRAINT IF EXISTS {child}_bounds")
        await connection.execute(
            f"ALTER TABLE {child} ADD CONSTRAINT {child}_bounds CHECK ({key[0]} >= '{first}' AND {key[0]} < '{end}')"
        )

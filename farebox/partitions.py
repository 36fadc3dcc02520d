"""`farebox partitions`: the months of the ledger; sealing, detaching and attaching them, and bringing strays home."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, TypeVar

import asyncpg

from config.settings import Settings
from farebox.desk import DeskError, open_desk
from ledger import months
from ledger.audit import COMMAND_LINE
from ledger.detach import attach as attach_month
from ledger.detach import detach as detach_month
from ledger.home import AT_ONCE, TooMany, bring_home
from ledger.home import strays as count_strays
from ledger.seal import MonthRefused, Seal, session
from ledger.seal import seal as seal_month
from ledger.seal import unseal as unseal_month
from ledger.table_locks import TablesBusy

T = TypeVar("T")

_LOCK_TRIES = 60
_LOCK_PAUSE_S = 1.0

_LIST = """
    WITH named AS (
        SELECT to_date(right(relname, 6), 'YYYYMM') AS month, oid, relispartition, reltuples,
               relname LIKE 'charges%' AS charges
        FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
            AND relname ~ '^(holds|charges|journal_entries|postings)_[0-9]{6}$'
    )
    SELECT coalesce(n.month, s.month) AS month, s.state, s.actor, s.sealed_at, coalesce(bool_or(relispartition), false)
               AS attached, count(oid) AS tables, coalesce(sum(pg_total_relation_size(oid)), 0)::bigint AS bytes,
           greatest(max(reltuples) FILTER (WHERE charges), 0)::bigint AS charges
    FROM named n FULL JOIN month_seals s ON s.month = n.month
    GROUP BY coalesce(n.month, s.month), s.state, s.actor, s.sealed_at ORDER BY 1
"""


async def list_months(settings: Settings) -> list[str]:
    """A line for each month, and one for each table whose default partition has rows."""
    async with _session(settings) as connection:
        lines = [_line(row) for row in await connection.fetch(_LIST)]
        found = await count_strays(connection)
    told = [f"{rows} rows of {parent} in the default partition" for parent, rows in found.items() if rows]
    return [f"{'month':9}{'is':10}{'charges':>12}{'size':>12}  seal", *lines, *told]


async def seal(settings: Settings, month: str) -> str:
    """Verify the ledger and seal a month."""
    which = _month(month)
    async with open_desk(settings) as desk:
        done = await _patiently(lambda: seal_month(desk.engine, which, COMMAND_LINE))
    return f"{months.name(which)} is sealed: {_rows(done)}; hash {done.hash.hex()}."


async def unseal(settings: Settings, month: str) -> str:
    """Take a seal off."""
    which = _month(month)
    async with _session(settings) as connection:
        await _patiently(lambda: unseal_month(connection, which, COMMAND_LINE))
    return f"{months.name(which)} is not sealed any more."


async def detach(settings: Settings, month: str, refundable_days: int) -> str:
    """Take a sealed month's tables off the ledger."""
    which = _month(month)
    async with _session(settings) as connection:
        done = await _patiently(lambda: detach_month(connection, which, COMMAND_LINE, refundable_days=refundable_days))
    tables = " ".join(f"-t {each}" for each in months.tables(which))
    return (
        f"{months.name(which)} is detached: {_rows(done)}. Its tables are still in the database, closed to changes; "
        f"`pg_dump -Fc {tables}` keeps them, after that they may be dropped."
    )


async def attach(settings: Settings, month: str) -> str:
    """Put a detached month's tables back."""
    which = _month(month)
    async with _session(settings) as connection:
        done = await _patiently(lambda: attach_month(connection, which, COMMAND_LINE))
    return f"{months.name(which)} is attached, and still sealed: {_rows(done)}, those that were sealed."


async def home(settings: Settings, *, everything: bool) -> str:
    """Move rows out of the default partitions into their months."""
    async with _session(settings) as connection:
        most = 2**62 if everything else AT_ONCE
        moved, left = await _patiently(lambda: bring_home(connection, COMMAND_LINE, at_once=most))
    if not moved:
        return "No row stands outside its month." if not any(left.values()) else f"No row could be moved: {_left(left)}"
    named = ", ".join(months.name(month) for month in moved)
    return f"Rows were moved into {named}." + (f" {_left(left)}" if any(left.values()) else "")


@asynccontextmanager
async def _session(settings: Settings) -> AsyncIterator[Any]:
    async with open_desk(settings) as desk, session(desk.engine) as connection:
        yield connection


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """What it comes to; somebody who has a table locked is waited for by trying again. Raises DeskError."""
    for _ in range(_LOCK_TRIES):
        try:
            return await work()
        except TablesBusy:
            await asyncio.sleep(_LOCK_PAUSE_S)
        except (MonthRefused, TooMany) as refused:
            raise DeskError(str(refused)) from None
        except asyncpg.IntegrityConstraintViolationError as refused:
            raise DeskError(f"the database refuses: {refused}") from None
    raise DeskError("the tables are in use: a long report, a dump or `farebox verify` is reading them; try again later")


def _month(text: str) -> date:
    try:
        return months.parse(text)
    except ValueError as error:
        raise DeskError(str(error)) from None


def _line(row: Any) -> str:
    state = row["state"] or ("open" if row["attached"] else "apart")
    if state == "detached" and not row["tables"]:
        state = "dropped"
    sealed = f"{row['actor']}, {row['sealed_at']:%Y-%m-%d %H:%M} UTC" if row["state"] else ""
    size = f"{row['bytes'] / 2**20:.1f} MiB"
    return f"{months.name(row['month']):9}{state:10}{row['charges']:>12}{size:>12}  {sealed}".rstrip()


def _rows(seal: Seal) -> str:
    return ", ".join(f"{rows} rows of {parent}" for parent, rows in seal.rows.items())


def _left(left: dict[str, int]) -> str:
    told = ", ".join(f"{rows} of {parent}" for parent, rows in left.items() if rows)
    return f"{told} stay: their ids are of no month that can be made (detached, far away, or not of version 7)."

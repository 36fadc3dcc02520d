"""Bringing home rows that stand in a default partition: whose month had no partition when they were written.

In one transaction the default partition is put aside, an empty one takes its place, the months are made that its rows
are of, and the rows are written again: no fact is changed or deleted on the way, and the database checks each of them.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from ledger import months
from ledger.audit import Actor, Change, append
from ledger.table_locks import take_tables

AT_ONCE = 50_000
"""Rows moved in one go: calls wait for about a second meanwhile."""

# Ids that are no instants of ours (not of version 7, or far away) have no month to go to.
_MONTHS_OF = """
    SELECT DISTINCT date_trunc('month', at)::date AS month FROM (
        SELECT to_timestamp(('x' || lpad(left(replace({key}::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0)
                   AT TIME ZONE 'UTC' AS at
        FROM {parent}_default WHERE substr({key}::text, 15, 1) = '7'
    ) AS told WHERE at >= '2020-01-01' AND at < now() AT TIME ZONE 'UTC' + interval '1 year' ORDER BY 1
"""


class TooMany(Exception):
    """So many rows cannot be moved while calls go on; the message says what to do."""


async def strays(connection: Any, at_most: int = 10_000) -> dict[str, int]:
    """How many rows stand in the default partition of each table, counted up to a bound."""
    return {
        parent: int(
            await connection.fetchval(f"SELECT count(*) FROM (SELECT FROM {parent}_default LIMIT {at_most}) AS found")
        )
        for parent in months.PARENTS
    }


async def bring_home(connection: Any, by: Actor, *, at_once: int = AT_ONCE) -> tuple[list[date], dict[str, int]]:
    """Move all rows whose month can be told: the months they are of, and how many rows of each table stay.

    Raises TooMany beyond ``at_once``, TablesBusy where a long reader is in the way, asyncpg's
    IntegrityConstraintViolationError for rows of a sealed month.
    """
    found = await strays(connection, at_once + 1)
    if sum(found.values()) > at_once:
        raise TooMany(f"more than {at_once} rows: calls would wait for long; stop Farebox and say --all")
    if not any(found.values()):
        return [], found
    async with connection.transaction():
        await take_tables(connection, *months.PARENTS, *(f"{parent}_default" for parent in months.PARENTS))
        homes = sorted({home for parent in months.PARENTS for home in await _homes(connection, parent)})
        for parent in months.PARENTS:
            await _put_aside(connection, parent)
        for month in homes:
            await connection.execute("SELECT ensure_month($1)", months.begins(month))
        for parent in months.PARENTS:
            await connection.execute(f"INSERT INTO {parent} SELECT * FROM {parent}_aside")
            await connection.execute(f"DROP TABLE {parent}_aside")
        left = await strays(connection)
        after = {"months": [months.name(month) for month in homes], "rows": found, "left": left}
        await append(connection, by, Change("month.home", "month", "default", None, after))
    return homes, left


async def _homes(connection: Any, parent: str) -> list[date]:
    query = _MONTHS_OF.format(parent=parent, key=months.PARENTS[parent][0])
    since = await connection.fetchval("SELECT attached_from()")  # before that months are detached, and come back whole
    return [row["month"] for row in await connection.fetch(query) if months.bounds(row["month"])[0] >= since]


async def _put_aside(connection: Any, parent: str) -> None:
    default = f"{parent}_default"
    for statement in (
        f"ALTER TABLE {parent} DETACH PARTITION {default}",
        f"ALTER TABLE {default} RENAME TO {parent}_aside",
        f"CREATE TABLE {default} (LIKE {parent} INCLUDING ALL)",
        f"SELECT guard_partition('{parent}', '{default}')",
        f"ALTER TABLE {parent} ATTACH PARTITION {default} DEFAULT",
    ):
        await connection.execute(statement)

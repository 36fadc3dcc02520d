"""What `farebox verify` says of months: rows outside their month, and whether seals are what was sealed.

The sums that a seal carries stand for the rows of a detached month everywhere else, so they are held against the audit
chain, and what people ordered against what was on record when the month was detached.
"""

from __future__ import annotations

from typing import Any

from ledger import months
from ledger.seal_sums import ORDERED, sums_hash
from ledger.verify_books import Checked

_MANY = 1000

_AUDITED = """
    SELECT s.month, s.state, s.hash, s.sums_hash, a.after ->> 'hash' AS told, a.after ->> 'sums' AS told_sums
    FROM month_seals s LEFT JOIN LATERAL (
        SELECT after FROM audit WHERE target_type = 'month' AND target_id = to_char(s.month, 'YYYY-MM')
            AND action = 'month.seal' ORDER BY seq DESC LIMIT 1
    ) a ON true ORDER BY s.month
"""
_CARRIED_ORDERS = """
    SELECT name, sum(value::numeric) AS told
    FROM month_seals, jsonb_each_text(ordered) AS t (name, value) WHERE state = 'detached' GROUP BY name
"""


async def check(connection: Any) -> Checked:
    """How many rows and seals were looked at, and a line for each fault. On an asyncpg connection, in a
    transaction."""
    strays = {parent: await _strays(connection, parent) for parent in months.PARENTS}
    broken = [
        f"{_count(rows)} of {parent} in the default partition: `farebox partitions home` moves them"
        for parent, rows in strays.items()
        if rows
    ]
    seals = await connection.fetch(_AUDITED)
    for row in seals:
        if (row["told"], row["told_sums"]) != (row["hash"].hex(), row["sums_hash"].hex()):
            broken.append(f"the seal of {months.name(row['month'])} is not the one in the audit chain")
        if await sums_hash(connection, row["month"]) != row["sums_hash"]:
            broken.append(f"the sums of {months.name(row['month'])} are not those that were sealed")
    return sum(strays.values()) + len(seals), broken + await _orders(connection)


async def _strays(connection: Any, parent: str) -> int:
    query = f"SELECT count(*) FROM (SELECT FROM {parent}_default LIMIT {_MANY}) AS found"
    return int(await connection.fetchval(query))


def _count(rows: int) -> str:
    return f"{rows} rows" if rows < _MANY else f"{rows} rows or more"


async def _orders(connection: Any) -> list[str]:
    """Credits, refunds and charges from outside that refer to rows of detached months."""
    told = {row["name"]: row["told"] for row in await connection.fetch(_CARRIED_ORDERS)}
    if not told:
        return []
    nothing = "00000000-0000-0000-0000-000000000000"
    found = await connection.fetchrow(ORDERED, nothing, await connection.fetchval("SELECT attached_from()"))
    return [
        f"orders of detached months: {name} {found[name]}, {told[name]} when they were detached"
        for name in told
        if found[name] != told[name]
    ]

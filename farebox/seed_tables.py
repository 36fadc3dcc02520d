"""Tables of months that nobody has used: filled first, then given keys and indexes, then attached, which is several
times faster than filling a partition that has them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from ledger.ids import floor


async def table_of(driver: Any, parent: str, month: str) -> str:
    """Where a month's rows go: into a table of their own, not yet attached; else, where that month has a partition
    already, into the parent. ``month`` is how its partitions' names end."""
    table = f"{parent}{month}"
    if await driver.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        return parent
    await driver.execute(f"CREATE TABLE {table} (LIKE {parent} INCLUDING ALL EXCLUDING INDEXES)")
    return table


async def index(driver: Any, parent: str, table: str) -> None:
    """Give a filled table its parent's keys, indexes and guards."""
    keys = await driver.fetch(
        "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint "
        "WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u')",
        parent,
    )
    indexes = await driver.fetch(
        "SELECT pg_get_indexdef(indexrelid) AS text FROM pg_index "
        "WHERE indrelid = $1::text::regclass AND NOT indisunique",
        parent,
    )
    for row in keys:
        await driver.execute(f"ALTER TABLE {table} ADD {row['text']}")
    for row in indexes:
        await driver.execute(re.sub(r"INDEX \S+ ON (ONLY )?\S+ ", f"INDEX ON {table} ", row["text"]))
    await driver.execute("SELECT guard_partition($1, $2)", parent, table)


async def attach(driver: Any, parent: str, table: str, begins: datetime, ends: datetime) -> None:
    """Make the table the partition of the ids of this time."""
    bounds = f"FROM ('{floor(begins)}') TO ('{floor(ends)}')"
    await driver.execute(f"ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES {bounds}")

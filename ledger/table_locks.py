"""Having tables alone for a moment, while calls go on: whoever comes meanwhile waits, so it is a short moment."""

from __future__ import annotations

from typing import Any

import asyncpg

_EACH_MS = 500
_TOGETHER_MS = 1000


class TablesBusy(Exception):
    """Somebody reads or writes the tables for longer than others should wait: try again."""


async def take_tables(connection: Any, *tables: str, mode: str = "ACCESS EXCLUSIVE") -> None:
    """Have these tables (not their partitions) until the transaction ends, in this order. Raises TablesBusy; asyncpg's
    UndefinedTableError where one is not there."""
    before = await connection.fetchval("SHOW statement_timeout")
    await connection.execute(f"SET LOCAL lock_timeout = {_EACH_MS}")
    await connection.execute(f"SET LOCAL statement_timeout = {_TOGETHER_MS}")
    try:
        await connection.execute(f"LOCK TABLE {', '.join(f'ONLY {table}' for table in tables)} IN {mode} MODE")
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError) as busy:
        raise TablesBusy(str(busy)) from busy
    await connection.execute(f"SET LOCAL statement_timeout = '{before}'")

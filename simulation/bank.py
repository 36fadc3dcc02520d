"""The twin of the bank: ``PostgresBank`` itself, on dictionaries in the place of Postgres.

Its own Python runs unchanged, down to the statements; what a statement does is ``answers.py``. Every operation is
atomic, because nothing in it waits. ``tests/contracts/test_bank.py`` holds the two banks against each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from ledger.audit import ORIGIN
from ledger.store_sql import PostgresBank
from simulation.answers import ANSWERS
from simulation.tables import Tables


class Connection:
    """What the bank takes for an asyncpg connection."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        answer = ANSWERS.get(query)
        if answer is None:
            return self._beside(query)
        with self._tables.transaction():
            return answer(self._tables, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        rows = await self.fetch(query, *args)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any) -> Any:
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    async def execute(self, query: str, *args: Any) -> None:
        await self.fetch(query, *args)

    def is_in_transaction(self) -> bool:
        return self._tables.in_transaction

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        with self._tables.transaction():
            yield

    def _beside(self, query: str) -> list[Any]:
        """Statements outside the money protocol: the audit chain (never linked here), months, health. Raises
        LookupError for any other: the twin must not pass over what it does not know."""
        if "audit" in query:
            return [{"seq": 0, "hash": ORIGIN, "now": self._tables.clock()}]
        if any(word in query for word in ("ensure_partitions", "pg_is_in_recovery", "holds_default", "system_events")):
            return [(0,)]
        raise LookupError(f"the twin of the bank has no answer to: {query}")


class MemoryBank(PostgresBank):
    """One replica's bank; all replicas share the tables."""

    def __init__(self, tables: Tables, *, owner: str, ttl_s: float = 15.0, horizon_s: float = 615.0) -> None:
        self._tables = tables
        self._owner = owner
        self._ttl = timedelta(seconds=ttl_s)
        self._horizon = timedelta(seconds=horizon_s)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        yield Connection(self._tables)

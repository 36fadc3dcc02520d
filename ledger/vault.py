"""The bank's way into its database: connections and transactions; every way it can be away becomes BankUnavailable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from ledger.store import BankBusy, BankUnavailable

_AWAY = (
    OSError,
    asyncio.TimeoutError,
    PoolTimeout,
    AsyncAdapt_asyncpg_dbapi.Error,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InternalClientError,
    # A password changed, a database renamed, a right withdrawn: an operator's to mend, and no fault of what was asked.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)


class Vault:
    """What every part of the bank is built on.

    ``owner`` names this process; ``ttl_s`` is how long a hold lives without a beat; ``horizon_s`` how long after its
    opening a hold's process could still spend (the longest stream and the ttl).
    """

    def __init__(self, engine: AsyncEngine, *, owner: str, ttl_s: float = 15.0, horizon_s: float = 615.0) -> None:
        self._engine = engine
        self._owner = owner
        self._ttl = timedelta(seconds=ttl_s)
        self._horizon = timedelta(seconds=horizon_s)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """An asyncpg connection out of the engine's pool."""
        try:
            pooled = await self._taken()
            driver: Any = pooled.driver_connection
            try:
                yield driver
            finally:
                (pooled.invalidate if driver.is_closed() else pooled.close)()
        except _BUSY as busy:
            raise BankBusy(str(busy)) from busy
        except _AWAY as away:
            raise BankUnavailable(f"{type(away).__name__}: {away}") from away

    async def _taken(self) -> PoolProxiedConnection:
        """One of the pool's; one that the server closed while it was idle is replaced, so a restart refuses nobody."""
        pooled = await self._pooled()
        while pooled.driver_connection is None or pooled.driver_connection.is_closed():
            pooled.invalidate()
            pooled = await self._pooled()
        return pooled

    async def _pooled(self) -> PoolProxiedConnection:
        # Straight from the pool: the way through the engine's own connection object costs as much as a statement does.
        return await greenlet_spawn(self._engine.sync_engine.pool.connect)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._connection() as connection, connection.transaction():
            yield connection

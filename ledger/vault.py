"""The bank's way into its database: connections and transactions; every way it can be away becomes BankUnavailable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ledger.store import BankBusy, BankUnavailable

_AWAY = (
    OSError,
    asyncio.TimeoutError,
    PoolTimeout,
    DBAPIError,
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
            async with self._engine.connect() as pooled:
                driver = await _driver(pooled)
                try:
                    yield driver
                finally:
                    if driver.is_closed():
                        await pooled.invalidate()
        except _BUSY as busy:
            raise BankBusy(str(busy)) from busy
        except _AWAY as away:
            raise BankUnavailable(f"{type(away).__name__}: {away}") from away

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._connection() as connection, connection.transaction():
            yield connection


async def _driver(pooled: AsyncConnection) -> Any:
    """The driver's connection; one the server closed while it was idle is replaced, so a restart refuses nobody."""
    driver = (await pooled.get_raw_connection()).driver_connection
    if driver is None or driver.is_closed():
        await pooled.invalidate()
        driver = (await pooled.get_raw_connection()).driver_connection
    return driver

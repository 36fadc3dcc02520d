"""Which errors mean that the database is away or too slow, so that trying again may help."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeout

from accounts.store import AccountsUnavailable
from ledger.store import BankUnavailable

_AWAY = (
    BankUnavailable,
    AccountsUnavailable,
    OSError,
    TimeoutError,
    PoolTimeout,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
    asyncpg.InternalClientError,
)


def is_away(error: BaseException) -> bool:
    """Whether trying again may help: the error, or one it was raised from, is the database's absence."""
    return any(isinstance(each, _AWAY) or _is_closed(each) for each in _chain(error))


def _is_closed(error: BaseException) -> bool:
    """Whether the driver found its connection closed; it says so in the words by which it tells of misuse, too."""
    return isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        # SQLAlchemy wraps the driver's error twice and keeps it as the cause.
        error = error.__cause__ or getattr(error, "orig", None)
        seen += 1

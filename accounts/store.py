"""What the SQL of this room has in common: a transaction in our own words, and the record of what an admin changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, func, literal, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from accounts.tables import SINCE_EVER
from ledger.audit import Actor, Change, append, driver
from ledger.tables import wallets
from ledger.wallet import token_wallet_id

LIST_MAX = 1000


class AccountsUnavailable(Exception):
    """The database of the accounts did not answer."""


class StaleWrite(Exception):
    """Somebody else has changed it since it was read."""


class Conflict(Exception):
    """What was asked does not fit what is there; the message says why."""


class Store:
    """The database and what every account made here begins with. Every method may raise AccountsUnavailable."""

    def __init__(self, engine: AsyncEngine, *, pepper: bytes, default_tier: str, default_language: str = "en") -> None:
        self._engine = engine
        self.pepper = pepper
        self._default_tier = default_tier
        self._default_language = default_language

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise AccountsUnavailable(f"the accounts' database did not answer: {type(error).__name__}") from error


async def audited(connection: AsyncConnection, by: Actor, *changes: Change) -> None:
    """Write down who changed what. The last step of a transaction: nobody who holds the chain waits for anything."""
    await append(await driver(connection), by, *changes)


def change_of(action: str, kind: str, target: UUID, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """A change as it is recorded; an empty side is a thing that was not there."""
    return Change(action, kind, str(target), dict(before) or None, dict(after) or None)


def difference(before: msgspec.Struct, after: msgspec.Struct) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields in which two values of one kind differ, as they were and as they are."""
    names = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    return {name: getattr(before, name) for name in names}, {name: getattr(after, name) for name in names}


async def make_due(
    connection: AsyncConnection, wallet_ids: Iterable[UUID], at: datetime | ColumnElement[Any] = SINCE_EVER
) -> None:
    """Have the bank look for another allowance of these wallets, and of the tokens beside them: before the next hold,
    or the first one after an instant. Locked in the order in which the bank locks wallets."""
    ids = [each for wallet_id in wallet_ids for each in (wallet_id, token_wallet_id(wallet_id))]
    # One array, however many they are: a group may have more members than a statement has parameters.
    mine = wallets.c.id == any_(literal(ids, ARRAY(Uuid)))
    locked = select(wallets.c.id).where(mine).order_by(wallets.c.id).with_for_update(key_share=True).cte("locked")
    news = {"due_at": func.least(wallets.c.due_at, at)}
    await connection.execute(update(wallets).where(wallets.c.id == locked.c.id).values(news))

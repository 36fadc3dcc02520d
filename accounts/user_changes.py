"""One change of one user: locked, compared with what the writer saw, written, recorded. Others build on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import asdict
from sqlalchemy import ColumnElement, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.store import Conflict, StaleWrite, Store, audited, change_of, difference, make_due
from accounts.tables import users
from accounts.user_rows import USER_COLUMNS, user_of, users_where
from accounts.users import User
from ledger.audit import Actor, Change

NOW: ColumnElement[Any] = func.clock_timestamp()
# Later than the last one even within the clock's resolution: a stale write is known by it.
TOUCHED: ColumnElement[Any] = func.greatest(NOW, users.c.updated_at + literal_column("interval '1 microsecond'"))
_UNRECORDED = ("id", "created_at", "updated_at")


class Step(NamedTuple):
    """One deed: under which action it is recorded, what it writes, and when the bank looks for another allowance (None:
    it need not)."""

    action: str
    news: dict[str, Any]
    due: datetime | ColumnElement[Any] | None = None


class UserChanges(Store):
    """The way every change of a user takes."""

    async def _change(
        self,
        user_id: UUID,
        action: str,
        news: dict[str, Any],
        by: Actor,
        *,
        expected: datetime | None = None,
        due: datetime | ColumnElement[Any] | None = None,
    ) -> User | None:
        """One step alone: see ``_take``."""
        return await self._take(user_id, (Step(action, news, due),), by, expected)

    async def _take(
        self, user_id: UUID, steps: Sequence[Step], by: Actor, expected: datetime | None = None
    ) -> User | None:
        """All of these steps, or none. What is as it was is neither written nor recorded."""
        async with self._transaction() as connection:
            user = await lock_user(connection, user_id)
            if user is None:
                return None
            if expected is not None and user.updated_at != expected:
                raise StaleWrite(f"the user {user.id} has changed since it was read")
            taken = [step for step in steps if _changes(user, step.news)]
            changes = []
            for step in taken:
                before, user = user, await write_user(connection, user, step.news)
                changes.append(recorded(step.action, before, user))
            for due in [step.due for step in taken if step.due is not None]:
                await make_due(connection, [user.wallet_id], due)
            await audited(connection, by, *changes)
        return user


async def lock_user(connection: AsyncConnection, user_id: UUID) -> User | None:
    """The user, who nobody else changes until the transaction ends."""
    # Read after the lock is had: one statement would tell of the groups there were when it began to wait.
    await connection.execute(select(users.c.id).where(users.c.id == user_id).with_for_update(key_share=True))
    row = (await connection.execute(users_where(users.c.id == user_id))).one_or_none()
    return None if row is None else user_of(row)


async def write_user(connection: AsyncConnection, user: User, news: dict[str, Any]) -> User:
    """The user with these fields changed; another tier begins now."""
    if news.get("tier", user.tier) != user.tier:
        news = {"tier_since": NOW, **news}
    statement = update(users).where(users.c.id == user.id).values(news | {"updated_at": TOUCHED})
    return user_of((await connection.execute(statement.returning(*USER_COLUMNS))).one())


def recorded(action: str, before: User | None, after: User) -> Change:
    """The change as the audit has it: what differs, or all of a user who is there for the first time."""
    was, is_ = ({}, asdict(after)) if before is None else difference(before, after)
    for name in _UNRECORDED:
        was.pop(name, None)
        is_.pop(name, None)
    return change_of(action, "user", after.id, was, is_)


def _changes(user: User, news: dict[str, Any]) -> bool:
    """Whether anything would be another. Raises Conflict for the status of a merged account."""
    if user.merged_into is not None and "status" in news:
        raise Conflict(f"this account was merged into {user.merged_into} and goes on there")
    return any(getattr(user, name) != value for name, value in news.items())

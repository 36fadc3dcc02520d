"""Who tried to log in, and who has tried too often.

A try is written down as wrong before the password is looked at, and made right afterwards: a hundred tries at once are
counted like a hundred one after the other, and a process that dies in between forgives nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin_api.address import counted_as
from admin_api.tables import admin_logins
from ledger.ids import uuid7

Outcome = Literal["ok", "wrong", "locked", "suspended", "reused"]

WINDOW = timedelta(minutes=15)
PER_EMAIL = 10
PER_PLACE = 30
_KEPT = timedelta(days=365)
_USER_AGENT_MAX = 200
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")


class Try(NamedTuple):
    """One try to log in: whose, from where, with what."""

    email: str
    address: str
    user_agent: str = ""

    @property
    def place(self) -> str:
        """Where it is counted."""
        return counted_as(self.address)


class LockedOut(Exception):
    """Too many wrong tries; ``wait_s`` until the next one counts."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"locked out for {wait_s} s")
        self.wait_s = wait_s


class Login(NamedTuple):
    """One line of the history."""

    id: UUID
    admin_id: UUID | None
    email: str
    address: str
    user_agent: str
    outcome: Outcome
    at: datetime


_COLUMNS = tuple(admin_logins.c[name] for name in Login._fields)


class Logins:
    """The history of logins, which is what the lock-out goes by: on every replica, and after a restart."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin(self, tried: Try, admin_id: UUID | None) -> UUID:
        """Write the try down as wrong; its id. Raises LockedOut: then the password is not looked at."""
        async with self._engine.begin() as connection:
            # The place first, then the e-mail, everywhere: nobody waits in a circle.
            for what in (f"login from {tried.place}", f"login as {tried.email.lower()}"):
                await connection.execute(_LOCK, {"what": what})
            wait = await _wait(connection, tried)
            if wait is None:
                return await _insert(connection, tried, "wrong", admin_id)
            await _note_locked(connection, tried, admin_id)
        raise LockedOut(max(1, int(wait.total_seconds()) + 1))

    async def finish(self, login_id: UUID, outcome: Outcome) -> None:
        """What became of the try."""
        statement = update(admin_logins).where(admin_logins.c.id == login_id).values(outcome=outcome)
        async with self._engine.begin() as connection:
            await connection.execute(statement)

    async def forget(self, login_id: UUID) -> None:
        """It was no try: the password was never looked at."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(admin_logins).where(admin_logins.c.id == login_id))

    async def page(
        self, admin_id: UUID | None, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
    ) -> Sequence[Login]:
        """Tries of this account (None: everybody's), newest first."""
        query = select(*_COLUMNS)
        if admin_id is not None:
            query = query.where(admin_logins.c.admin_id == admin_id)
        if after is not None:
            query = query.where(tuple_(admin_logins.c.at, admin_logins.c.id) < after)
        query = query.order_by(admin_logins.c.at.desc(), admin_logins.c.id.desc()).limit(limit)
        async with self._engine.connect() as connection:
            return [Login(**row._mapping) for row in await connection.execute(query)]

    async def sweep(self) -> None:
        """Forget what is older than a year."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(admin_logins).where(admin_logins.c.at < func.now() - _KEPT))


async def record(connection: AsyncConnection, tried: Try, outcome: Outcome, admin_id: UUID | None) -> None:
    """One line of the history, as part of a transaction."""
    await _insert(connection, tried, outcome, admin_id)


async def _insert(connection: AsyncConnection, tried: Try, outcome: Outcome, admin_id: UUID | None = None) -> UUID:
    login_id = uuid7()
    row: dict[str, Any] = {"id": login_id, "admin_id": admin_id, "email": tried.email, "address": tried.address}
    row |= {"place": tried.place}
    row |= {"user_agent": tried.user_agent[:_USER_AGENT_MAX], "outcome": outcome, "at": func.clock_timestamp()}
    await connection.execute(insert(admin_logins).values(row))
    return login_id


async def _wait(connection: AsyncConnection, tried: Try) -> timedelta | None:
    """How long this caller has to wait; None: not at all."""
    as_email = func.lower(admin_logins.c.email) == tried.email.lower()
    waits = [
        await _wait_of(connection, as_email, PER_EMAIL),
        await _wait_of(connection, admin_logins.c.place == tried.place, PER_PLACE),
    ]
    return max((wait for wait in waits if wait is not None), default=None)


async def _wait_of(connection: AsyncConnection, which: ColumnElement[bool], most: int) -> timedelta | None:
    """Until the oldest of the last ``most`` wrong tries leaves the window; None where there are fewer."""
    at = admin_logins.c.at
    recent = and_(which, admin_logins.c.outcome == "wrong", at > func.clock_timestamp() - WINDOW)
    query = select(at - func.clock_timestamp() + WINDOW).where(recent).order_by(at.desc()).offset(most - 1).limit(1)
    wait: timedelta | None = await connection.scalar(query)
    return wait


async def _note_locked(connection: AsyncConnection, tried: Try, admin_id: UUID | None) -> None:
    """One line a minute tells of a lock-out: a caller that hammers does not fill the history."""
    same = and_(
        func.lower(admin_logins.c.email) == tried.email.lower(),
        admin_logins.c.place == tried.place,
        admin_logins.c.outcome == "locked",
        admin_logins.c.at > func.clock_timestamp() - timedelta(minutes=1),
    )
    if await connection.scalar(select(admin_logins.c.id).where(same).limit(1)) is None:
        await _insert(connection, tried, "locked", admin_id)

"""Sessions of admins: begun by a login, renewed by a refresh token that is good once, ended by many things.

A refresh token used a second time ends its session: one of the two who have it is a thief, and nobody can tell which.
There is no grace for a reply that was lost on its way. Within a grace a thief would renew beside the owner unseen, and
what the owner loses without it is one login.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin_api.logins import Try, record
from admin_api.tables import admin_sessions, admins
from admin_api.tokens import Refresh, Tokens
from ledger.audit import Actor, Change, append, driver
from ledger.ids import uuid7

LIFETIME = timedelta(days=30)
"""From the login on; renewing a session does not prolong it."""

_LIVE_MAX = 20
_KEPT = timedelta(days=90)
_USER_AGENT_MAX = 200


class Standing(NamedTuple):
    """Whose session it is, as the account stands this instant."""

    admin_id: UUID
    session_id: UUID
    email: str
    role: Any


class Renewed(NamedTuple):
    """A session with the refresh token that is good for its next renewal."""

    admin_id: UUID
    session_id: UUID
    role: str
    refresh_token: str
    expires_at: datetime


class Session(NamedTuple):
    """A session as its owner sees it."""

    id: UUID
    address: str
    user_agent: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime


_LIVE = and_(
    admin_sessions.c.ended_at.is_(None),
    admin_sessions.c.expires_at > func.now(),
    admin_sessions.c.created_at >= admins.c.sessions_from,
    admins.c.status == "active",
)
_WITH_ADMIN = admin_sessions.join(admins, admins.c.id == admin_sessions.c.admin_id)
_SESSION = tuple(admin_sessions.c[name] for name in Session._fields)


class Sessions:
    """The sessions in the database. Whether one stands is asked there with each request: an account that is suspended
    is out at once, on every replica."""

    def __init__(self, engine: AsyncEngine, tokens: Tokens) -> None:
        self._engine = engine
        self._tokens = tokens

    async def begin(self, admin_id: UUID, password_hash: str, tried: Try) -> Renewed | None:
        """A session for this admin; None where the account is not any more what the password was checked against."""
        session_id = uuid7()
        token, digest = self._tokens.refresh(session_id, 1)
        row = {"id": session_id, "admin_id": admin_id, "refresh_digest": digest, "address": tried.address}
        row |= {"user_agent": tried.user_agent[:_USER_AGENT_MAX], "expires_at": func.now() + LIFETIME}
        async with self._engine.begin() as connection:
            role = await _confirmed(connection, admin_id, password_hash)
            if role is None:
                return None
            await _make_room(connection, admin_id)
            # The clock and not the transaction's begin: it may have waited for the very change that ends sessions.
            statement = insert(admin_sessions).values(row | {"created_at": func.clock_timestamp()})
            ends = (await connection.execute(statement.returning(admin_sessions.c.expires_at))).scalar_one()
        return Renewed(admin_id, session_id, role, token, ends)

    async def renew(self, presented: Refresh, tried: Try, request_id: UUID) -> Renewed | None:
        """The next refresh token for the last one; None where the session has ended, or ends because of this."""
        which = admin_sessions.c.id == presented.session_id
        columns = (admin_sessions, admins.c.email, admins.c.role, _LIVE.label("live"))
        query = select(*columns).select_from(_WITH_ADMIN).where(which).with_for_update(of=admin_sessions)
        async with self._engine.begin() as connection:
            row = (await connection.execute(query)).one_or_none()
            if row is None or not row.live:
                return None
            if not hmac.compare_digest(row.refresh_digest, presented.digest):
                await _reused(connection, row, tried, request_id)
                return None
            token, digest = self._tokens.refresh(row.id, row.generation + 1)
            news = {"generation": row.generation + 1, "refresh_digest": digest, "refreshed_at": func.now()}
            await connection.execute(update(admin_sessions).where(which).values(news))
        return Renewed(row.admin_id, row.id, row.role, token, row.expires_at)

    async def standing(self, session_id: UUID) -> Standing | None:
        """Whose session it is; None where it has ended in whichever way."""
        columns = (admins.c.id, admin_sessions.c.id.label("session_id"), admins.c.email, admins.c.role)
        query = select(*columns).select_from(_WITH_ADMIN).where(admin_sessions.c.id == session_id, _LIVE)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Standing(*row)

    async def of(self, admin_id: UUID) -> Sequence[Session]:
        """The live sessions of an admin, newest first."""
        query = select(*_SESSION).select_from(_WITH_ADMIN).where(admin_sessions.c.admin_id == admin_id, _LIVE)
        async with self._engine.connect() as connection:
            found = await connection.execute(query.order_by(admin_sessions.c.created_at.desc()).limit(_LIVE_MAX))
            return [Session(**row._mapping) for row in found]

    async def end(self, session_id: UUID, admin_id: UUID, why: str, by: Actor) -> bool:
        """End one session of this admin. False where there is no such live session."""
        which = and_(admin_sessions.c.id == session_id, admin_sessions.c.admin_id == admin_id)
        async with self._engine.begin() as connection:
            if not await _end(connection, which, why):
                return False
            change = Change("session.end", "admin", str(admin_id), {"session": str(session_id)}, {"why": why})
            await append(await driver(connection), by, change)
        return True

    async def sweep(self) -> None:
        """Forget sessions that ended long ago."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(admin_sessions).where(admin_sessions.c.expires_at < func.now() - _KEPT))


async def _confirmed(connection: AsyncConnection, admin_id: UUID, password_hash: str) -> str | None:
    """The role of the account, locked, if it still is what the password was checked against."""
    same = and_(admins.c.id == admin_id, admins.c.password_hash == password_hash, admins.c.status == "active")
    statement = update(admins).where(same).values(last_login_at=func.now()).returning(admins.c.role)
    role: str | None = await connection.scalar(statement)
    return role


async def _make_room(connection: AsyncConnection, admin_id: UUID) -> None:
    """The oldest session makes room for one more than an admin may have."""
    live = and_(admin_sessions.c.admin_id == admin_id, admin_sessions.c.ended_at.is_(None))
    newest = select(admin_sessions.c.id).where(live).order_by(admin_sessions.c.created_at.desc()).limit(_LIVE_MAX - 1)
    await _end(connection, and_(live, admin_sessions.c.id.not_in(newest)), "too many sessions")


async def _reused(connection: AsyncConnection, row: Any, tried: Try, request_id: UUID) -> None:
    why = "a refresh token was used twice"
    await _end(connection, admin_sessions.c.id == row.id, why)
    await record(connection, tried._replace(email=row.email), "reused", row.admin_id)
    change = Change("session.reused", "admin", str(row.admin_id), {"session": str(row.id)}, {"why": why})
    await append(await driver(connection), Actor(row.email, row.role, tried.address, request_id), change)


async def _end(connection: AsyncConnection, which: ColumnElement[bool], why: str) -> bool:
    live = and_(which, admin_sessions.c.ended_at.is_(None))
    statement = update(admin_sessions).where(live).values(ended_at=func.now(), ended_why=why)
    return (await connection.execute(statement)).rowcount > 0

"""The accounts of admins in the database: the only SQL that writes them. Every change is audited with it.

What takes rights away (another role, another password, suspension) ends the account's sessions in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin_api.tables import admin_sessions, admins
from ledger.audit import Actor, Change, append, driver
from ledger.ids import uuid7

AdminRole = Literal["owner", "admin", "support"]
AdminStatus = Literal["active", "suspended", "deleted"]

_ENDING = ("role", "password_hash", "status")
_SHOWN = ("email", "name", "role", "status")


class LastOwner(Exception):
    """Without this owner nobody with an account could change admins."""


class EmailTaken(Exception):
    """Another account has this address."""


class StaleAdmin(Exception):
    """The account has another version than the one that was read."""


class Admin(msgspec.Struct, frozen=True):
    """An admin's account."""

    id: UUID
    email: str
    name: str
    role: AdminRole
    status: AdminStatus
    version: int
    password_hash: str
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None = None


_COLUMNS = tuple(admins.c[name] for name in Admin.__struct_fields__)


class AdminAccounts:
    """What can be done to admins' accounts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, *, email: str, name: str, role: AdminRole, password_hash: str, by: Actor) -> Admin:
        """A new account. Raises EmailTaken."""
        row = {"id": uuid7(), "email": email, "name": name, "role": role, "password_hash": password_hash}
        statement = insert(admins).values(row).on_conflict_do_nothing().returning(*_COLUMNS)
        async with self._engine.begin() as connection:
            made = (await connection.execute(statement)).one_or_none()
            if made is None:
                raise EmailTaken(email)
            admin = _admin(made)
            await _audit(connection, by, Change("admin.create", "admin", str(admin.id), None, _shown(admin)))
        return admin

    async def find(self, admin_id: UUID) -> Admin | None:
        """The account with this id; None also for a deleted one."""
        return await self._one(admins.c.id == admin_id)

    async def by_email(self, email: str) -> Admin | None:
        """The account that logs in with this address."""
        return await self._one(func.lower(admins.c.email) == email.lower())

    async def page(
        self, *, search: str = "", after: tuple[datetime, UUID] | None = None, limit: int = 50
    ) -> Sequence[Admin]:
        """Accounts, oldest first, behind the one created then with this id."""
        query = _listed().order_by(admins.c.created_at, admins.c.id).limit(limit)
        if after is not None:
            query = query.where(tuple_(admins.c.created_at, admins.c.id) > after)
        if search:
            query = query.where(_has(search))
        async with self._engine.connect() as connection:
            return [_admin(row) for row in await connection.execute(query)]

    async def change(
        self, admin_id: UUID, *, expected: int | None, by: Actor, action: str = "admin.change", **news: Any
    ) -> Admin | None:
        """Change some of email, name, role, status, password_hash; None where there is no such account.

        ``expected`` is the version that was read. Raises StaleAdmin, LastOwner, EmailTaken.
        """
        async with self._engine.begin() as connection:
            before = await _locked(connection, admin_id)
            if before is None:
                return None
            if expected is not None and before.version != expected:
                raise StaleAdmin
            if before.role == "owner" and (news.get("role", "owner"), news.get("status", "active")) != (
                "owner",
                "active",
            ):
                await _another_owner(connection, admin_id)
            if "email" in news and await _taken(connection, admin_id, news["email"]):
                raise EmailTaken(news["email"])
            after = await _write(connection, before, news)
            await _audit(connection, by, Change(action, "admin", str(admin_id), _shown(before), _told(after, news)))
        return after

    async def keep_hash(self, admin_id: UUID, old: str, new: str) -> None:
        """Replace the hash of the same password by one with other parameters."""
        same = and_(admins.c.id == admin_id, admins.c.password_hash == old)
        async with self._engine.begin() as connection:
            await connection.execute(update(admins).where(same).values(password_hash=new))

    async def _one(self, which: ColumnElement[bool]) -> Admin | None:
        async with self._engine.connect() as connection:
            row = (await connection.execute(_listed().where(which))).one_or_none()
        return None if row is None else _admin(row)


def _listed() -> Select[Any]:
    return select(*_COLUMNS).where(admins.c.status != "deleted")


def _has(search: str) -> ColumnElement[bool]:
    return or_(admins.c.email.icontains(search, autoescape=True), admins.c.name.icontains(search, autoescape=True))


async def _locked(connection: AsyncConnection, admin_id: UUID) -> Admin | None:
    """The account, locked; the owners are locked with it, in the order of their ids: two of them that remove each
    other come one after the other."""
    which = and_(admins.c.status != "deleted", or_(admins.c.id == admin_id, admins.c.role == "owner"))
    query = select(*_COLUMNS).where(which).order_by(admins.c.id).with_for_update()
    found = {row.id: row for row in await connection.execute(query)}
    return _admin(found[admin_id]) if admin_id in found else None


async def _another_owner(connection: AsyncConnection, admin_id: UUID) -> None:
    others = and_(admins.c.role == "owner", admins.c.status == "active", admins.c.id != admin_id)
    if await connection.scalar(select(admins.c.id).where(others).limit(1)) is None:
        raise LastOwner


async def _taken(connection: AsyncConnection, admin_id: UUID, email: str) -> bool:
    same = and_(func.lower(admins.c.email) == email.lower(), admins.c.status != "deleted", admins.c.id != admin_id)
    return await connection.scalar(select(admins.c.id).where(same)) is not None


async def _write(connection: AsyncConnection, before: Admin, news: dict[str, Any]) -> Admin:
    values = {**news, "version": before.version + 1, "updated_at": func.now()}
    if any(name in news and news[name] != getattr(before, name) for name in _ENDING):
        values["sessions_from"] = func.now()
        await end_sessions(connection, before.id, "the account changed")
    statement = update(admins).where(admins.c.id == before.id).values(values).returning(*_COLUMNS)
    return _admin((await connection.execute(statement)).one())


async def end_sessions(connection: AsyncConnection, admin_id: UUID, why: str) -> int:
    """End every session of an admin; how many there were."""
    live = and_(admin_sessions.c.admin_id == admin_id, admin_sessions.c.ended_at.is_(None))
    statement = update(admin_sessions).where(live).values(ended_at=func.now(), ended_why=why)
    return (await connection.execute(statement)).rowcount


async def _audit(connection: AsyncConnection, by: Actor, *changes: Change) -> None:
    await append(await driver(connection), by, *changes)


def _shown(admin: Admin) -> dict[str, Any]:
    return {name: getattr(admin, name) for name in _SHOWN}


def _told(admin: Admin, news: dict[str, Any]) -> dict[str, Any]:
    return _shown(admin) | ({"password": "changed"} if "password_hash" in news else {})


def _admin(row: Any) -> Admin:
    return Admin(**row._mapping)

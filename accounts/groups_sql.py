"""Groups in the database: made, changed, retired, listed. Who belongs to them: `members_sql.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Select, Uuid, func, literal_column, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.groups import KeptGroup
from accounts.store import LIST_MAX, Conflict, StaleWrite, Store, audited, change_of, difference, make_due
from accounts.tables import SINCE_EVER, group_members, users
from config.catalog_sql import group_of
from config.tables import groups
from ledger.audit import SYSTEM, Actor
from ledger.ids import uuid7
from ledger.tables import wallets
from policies.group import Group

_CHANGEABLE = frozenset(Group.__struct_fields__) - {"id", "wallet_id"}
_OUTSIDE_DOC = ("id", "name", "wallet_id")
# The outer row's id as text: in what an INSERT returns, SQLAlchemy correlates nothing, and all `groups` would come in.
_OUTER = literal_column("groups.id", Uuid)
_MEMBERS = select(func.count()).where(group_members.c.group_id == _OUTER).correlate(None).scalar_subquery()
_COLUMNS: tuple[ColumnElement[Any], ...] = (*groups.c, _MEMBERS.label("members"))


class Groups(Store):
    """What can be done to groups. Effective on every replica within two seconds."""

    async def create_group(self, *, name: str, by: Actor = SYSTEM, **told: Any) -> KeptGroup:
        """A group with a wallet of its own; ``told`` are the other fields of ``Group``.

        Raises ValueError for what makes no group, Conflict where one of this name is there.
        """
        group = Group(**{**_checked(told), "id": uuid7(), "name": name, "wallet_id": uuid7()})
        row = {"id": group.id, "name": name, "wallet_id": group.wallet_id, "doc": _doc(group)}
        async with self._transaction() as connection:
            await connection.execute(insert(wallets).values(id=group.wallet_id, due_at=SINCE_EVER))
            kept = await _named(connection, insert(groups).values(row), name)
            await audited(connection, by, change_of("group.create", "group", group.id, {}, _facts(group)))
        return kept

    async def change_group(
        self, group_id: UUID, *, expected_version: int | None = None, by: Actor = SYSTEM, **changes: Any
    ) -> KeptGroup | None:
        """Other fields of ``Group``; None where there is no such group, or it is retired.

        Raises StaleWrite, ValueError for what makes no group, Conflict where another one has the name.
        """
        _checked(changes)
        async with self._transaction() as connection:
            before = await _lock(connection, group_id, expected_version)
            if before is None:
                return None
            group = replace(before.group, **changes)
            return before if group == before.group else await _write(connection, before.group, group, by)

    async def retire_group(
        self, group_id: UUID, *, expected_version: int | None = None, by: Actor = SYSTEM
    ) -> KeptGroup | None:
        """Take from its members what the group gave; who belonged to it, and the money in its wallet, stay on record.
        None where there is no such group, or it is retired. Raises StaleWrite."""
        news = {"retired_at": func.now(), "version": groups.c.version + 1, "updated_at": func.now()}
        async with self._transaction() as connection:
            before = await _lock(connection, group_id, expected_version)
            if before is None:
                return None
            await connection.execute(update(groups).where(groups.c.id == group_id).values(news))
            kept = _kept((await connection.execute(_where(groups.c.id == group_id))).one())
            await make_members_due(connection, before.group)
            await audited(connection, by, change_of("group.retire", "group", group_id, _facts(before.group), {}))
        return kept

    async def find_group(self, group_id: UUID) -> KeptGroup | None:
        """The group with this id, a retired one too."""
        async with self._transaction() as connection:
            row = (await connection.execute(_where(groups.c.id == group_id))).one_or_none()
        return None if row is None else _kept(row)

    async def list_groups(
        self, *, search: str = "", retired: bool = False, after: tuple[str, UUID] | None = None, limit: int = 50
    ) -> list[KeptGroup]:
        """One page of groups by name, from behind ``after`` (name, id) on, at most 1000; ``search`` is a part of the
        name."""
        query = _where().order_by(groups.c.name, groups.c.id).limit(min(limit, LIST_MAX))
        if not retired:
            query = query.where(groups.c.retired_at.is_(None))
        if search:
            query = query.where(func.lower(groups.c.name).contains(search.lower(), autoescape=True))
        if after is not None:
            query = query.where(tuple_(groups.c.name, groups.c.id) > tuple_(*after))
        async with self._transaction() as connection:
            return [_kept(row) for row in await connection.execute(query)]


async def make_members_due(connection: AsyncConnection, group: Group) -> None:
    """Have the bank look for another allowance of the group and of everybody in it."""
    belong = select(users.c.wallet_id).join(group_members, group_members.c.user_id == users.c.id)
    theirs = await connection.scalars(belong.where(group_members.c.group_id == group.id))
    await make_due(connection, [group.wallet_id, *theirs])


async def _lock(connection: AsyncConnection, group_id: UUID, expected_version: int | None) -> KeptGroup | None:
    alive = _where(groups.c.id == group_id, groups.c.retired_at.is_(None))
    row = (await connection.execute(alive.with_for_update(key_share=True, of=groups))).one_or_none()
    if row is None:
        return None
    if expected_version not in (None, row.version):
        raise StaleWrite(f"the group {row.name} is at version {row.version}, not {expected_version}")
    return _kept(row)


async def _write(connection: AsyncConnection, before: Group, after: Group, by: Actor) -> KeptGroup:
    news = {"name": after.name, "doc": _doc(after), "version": groups.c.version + 1, "updated_at": func.now()}
    kept = await _named(connection, update(groups).where(groups.c.id == after.id).values(news), after.name)
    await make_members_due(connection, after)
    await audited(connection, by, change_of("group.change", "group", after.id, *difference(before, after)))
    return kept


async def _named(connection: AsyncConnection, statement: Any, name: str) -> KeptGroup:
    """Raises Conflict where another group has the name."""
    try:
        return _kept((await connection.execute(statement.returning(*_COLUMNS))).one())
    except IntegrityError as error:
        raise Conflict(f"there is a group {name} already") from error


def _where(*conditions: ColumnElement[bool]) -> Select[Any]:
    return select(*_COLUMNS).where(*conditions)


def _checked(told: Mapping[str, Any]) -> Mapping[str, Any]:
    if unknown := told.keys() - _CHANGEABLE:
        raise ValueError(f"a group has no {', '.join(sorted(unknown))} to set")
    return told


def _facts(group: Group) -> dict[str, Any]:
    return {"name": group.name, "wallet_id": group.wallet_id, **_doc(group)}


def _doc(group: Group) -> dict[str, Any]:
    doc: dict[str, Any] = msgspec.to_builtins(group)
    return {name: value for name, value in doc.items() if name not in _OUTSIDE_DOC}


def _kept(row: Any) -> KeptGroup:
    return KeptGroup(group_of(row), row.version, row.members, row.created_at, row.updated_at, row.retired_at)

"""What is kept of an Open WebUI, read and written: accounts, marks, groups, shown models, and how syncs went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Uuid, and_, any_, delete, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from accounts.members_sql import GROUPS_MAX
from accounts.tables import api_keys, group_members, users
from config.tables import groups
from ledger.ids import floor, uuid7
from ledger.tables import charges
from openwebui.kept import Account, Kept, KeptCircle, Mark
from openwebui.report import Report
from openwebui.shapes import ADMIN
from openwebui.tables import openwebui_groups, openwebui_models, openwebui_people, openwebui_syncs

REPORTS_KEPT = 200
_AT_ONCE = 1000


class Mirror:
    """The mirror of one realm."""

    def __init__(self, engine: AsyncEngine, realm: str) -> None:
        self._engine = engine
        self.realm = realm

    async def kept(self) -> Kept:
        """All of it, as of one instant."""
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ")
            return Kept(
                realm=self.realm,
                accounts=await _accounts(connection, self.realm),
                marks=await self._marks(connection),
                circles=await self._circles(connection),
                names=await _names(connection),
                groups_max=GROUPS_MAX,
            )

    async def write_marks(self, marks: Mapping[str, Mark]) -> None:
        """Remember what was seen of these people."""
        rows = [
            {"realm": self.realm, "remote_id": name, **msgspec.structs.asdict(mark)} for name, mark in marks.items()
        ]
        for start in range(0, len(rows), _AT_ONCE):
            statement = insert(openwebui_people).values(rows[start : start + _AT_ONCE])
            news = {name: statement.excluded[name] for name in ("role", "here", "suspended")}
            async with self._engine.begin() as connection:
                await connection.execute(
                    statement.on_conflict_do_update(index_elements=["realm", "remote_id"], set_=news)
                )

    async def link(self, circle_id: str, group_id: UUID) -> None:
        """The group here that stands for one there, from now on."""
        row = {"realm": self.realm, "remote_id": circle_id, "group_id": group_id}
        async with self._engine.begin() as connection:
            await connection.execute(insert(openwebui_groups).values(row).on_conflict_do_nothing())

    async def unlink(self, circle_id: str) -> None:
        """The group is not there any more."""
        gone = delete(openwebui_groups).where(
            openwebui_groups.c.realm == self.realm, openwebui_groups.c.remote_id == circle_id
        )
        async with self._engine.begin() as connection:
            await connection.execute(gone)

    async def write_shown(self, shown: Iterable[str], at: datetime) -> None:
        """Which models people are shown there."""
        statement = insert(openwebui_models).values(realm=self.realm, shown=sorted(shown), at=at)
        news = {name: statement.excluded[name] for name in ("shown", "at")}
        async with self._engine.begin() as connection:
            await connection.execute(statement.on_conflict_do_update(index_elements=["realm"], set_=news))

    async def write_report(self, report: Report) -> None:
        """Keep how a sync went; of older ones the last two hundred."""
        row = {"id": uuid7(), "realm": self.realm, "at": report.at, "outcome": report.outcome}
        old = select(openwebui_syncs.c.id).where(openwebui_syncs.c.realm == self.realm)
        old = old.order_by(openwebui_syncs.c.id.desc()).offset(REPORTS_KEPT)
        async with self._engine.begin() as connection:
            await connection.execute(insert(openwebui_syncs).values({**row, "doc": msgspec.to_builtins(report)}))
            await connection.execute(delete(openwebui_syncs).where(openwebui_syncs.c.id.in_(old)))

    async def last_report(self) -> Report | None:
        """How the last sync went; None before the first."""
        query = select(openwebui_syncs.c.doc).where(openwebui_syncs.c.realm == self.realm)
        async with self._engine.connect() as connection:
            doc = await connection.scalar(query.order_by(openwebui_syncs.c.id.desc()).limit(1))
        return None if doc is None else msgspec.convert(doc, Report)

    async def chats(self, since: datetime) -> bool:
        """Whether ordinary users of it, as the last sync saw them, were charged since this instant for what its service
        asked: then they see models."""
        services = select(api_keys.c.id).where(api_keys.c.user_id.is_(None), api_keys.c.realm == self.realm)
        query = (
            select(charges.c.request_id)
            .join(users, users.c.id == charges.c.user_id)
            .join(openwebui_people, and_(*_same_person()))
            .where(users.c.realm == self.realm, openwebui_people.c.role != ADMIN)
            .where(charges.c.request_id >= floor(since), charges.c.key_id.in_(services))
        )
        async with self._engine.connect() as connection:
            return (await connection.execute(query.limit(1))).first() is not None

    async def _marks(self, connection: AsyncConnection) -> dict[str, Mark]:
        table = openwebui_people
        found = await connection.execute(select(table).where(table.c.realm == self.realm))
        return {row.remote_id: Mark(row.role, row.here, row.suspended) for row in found}

    async def _circles(self, connection: AsyncConnection) -> dict[str, KeptCircle]:
        table = openwebui_groups
        query = select(table.c.remote_id, groups.c.id, groups.c.name, groups.c.retired_at)
        query = query.join(groups, groups.c.id == table.c.group_id).where(table.c.realm == self.realm)
        return {
            row.remote_id: KeptCircle(row.id, row.name, row.retired_at is not None)
            for row in await connection.execute(query)
        }


def _same_person() -> tuple[ColumnElement[bool], ...]:
    table = openwebui_people
    return table.c.realm == users.c.realm, table.c.remote_id == users.c.subject


async def _accounts(connection: AsyncConnection, realm: str) -> dict[UUID, Account]:
    """The realm's accounts, and those that go on for merged ones."""
    target = users.alias("target")
    merged = select(target.c.merged_into).where(target.c.realm == realm, target.c.merged_into.is_not(None))
    mine = or_(users.c.realm == realm, users.c.id.in_(merged))
    columns: list[ColumnElement[Any]] = [users.c[name] for name in Account.__struct_fields__ if name != "groups"]
    found = (await connection.execute(select(*columns).where(mine))).all()
    belonging = await _belonging(connection, [row.id for row in found])
    return {row.id: Account(**row._mapping, groups=frozenset(belonging.get(row.id, ()))) for row in found}


async def _belonging(connection: AsyncConnection, user_ids: list[UUID]) -> dict[UUID, list[UUID]]:
    """The groups in force of each of these."""
    theirs = group_members.c.user_id == any_(literal(user_ids, ARRAY(Uuid)))
    query = select(group_members.c.user_id, group_members.c.group_id).where(theirs)
    belonging: dict[UUID, list[UUID]] = {}
    for row in await connection.execute(query):
        belonging.setdefault(row.user_id, []).append(row.group_id)
    return belonging


async def _names(connection: AsyncConnection) -> dict[str, UUID]:
    found = await connection.execute(select(groups.c.name, groups.c.id).where(groups.c.retired_at.is_(None)))
    return {row.name: row.id for row in found}

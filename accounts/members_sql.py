"""Who belongs to a group. A change is told to every replica as a change of the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.groups import Member
from accounts.store import LIST_MAX, Conflict, Store, audited, change_of, make_due
from accounts.tables import group_members, users
from accounts.user_changes import lock_user
from accounts.user_rows import USER_COLUMNS, user_of, users_where
from accounts.users import User
from config.tables import groups
from ledger.audit import SYSTEM, Actor

GROUPS_MAX = 32
"""Groups one user may belong to: every call looks at all of them."""


class UnknownUsers(LookupError):
    """There are no such users; ``ids`` are theirs."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        super().__init__(f"there is no user {', '.join(map(str, ids))}")
        self.ids = ids


class Members(Store):
    """What can be done to memberships. Effective on every replica within two seconds."""

    async def add_member(self, group_id: UUID, user_id: UUID, *, by: Actor = SYSTEM) -> bool:
        """False where the user belongs to it already. Raises as ``add_members``."""
        return bool(await self.add_members(group_id, [user_id], by=by))

    async def add_members(self, group_id: UUID, user_ids: Sequence[UUID], *, by: Actor = SYSTEM) -> list[UUID]:
        """Add all of these, or none; those who did not belong to it before.

        Raises UnknownUsers, LookupError where there is no such group in force, Conflict for a deleted user and for one
        who belongs to 32 groups.
        """
        async with self._transaction() as connection:
            meant = await self._meant(connection, group_id, user_ids)
            joining = [user for user in meant if group_id not in user.groups]
            for user in joining:
                _check(user)
            if joining:
                rows = [{"group_id": group_id, "user_id": user.id} for user in joining]
                await connection.execute(insert(group_members).values(rows))
                await make_due(connection, [user.wallet_id for user in joining])
            added = (change_of("group.add_member", "group", group_id, {}, {"user": user.id}) for user in joining)
            await audited(connection, by, *added)
        return [user.id for user in joining]

    async def remove_member(self, group_id: UUID, user_id: UUID, *, by: Actor = SYSTEM) -> bool:
        """False where the user does not belong to it."""
        this = (group_members.c.group_id == group_id, group_members.c.user_id == user_id)
        async with self._transaction() as connection:
            user = await lock_user(connection, user_id)
            gone = await connection.execute(delete(group_members).where(*this))
            if user is None or not gone.rowcount:
                return False
            await make_due(connection, [user.wallet_id])
            await audited(connection, by, change_of("group.remove_member", "group", group_id, {"user": user_id}, {}))
        return True

    async def list_members(self, group_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[Member]:
        """One page of members by the user's id, from behind ``after`` on, at most 1000."""
        columns: tuple[Any, ...] = (*USER_COLUMNS, group_members.c.added_at)
        query = select(*columns).join(group_members, group_members.c.user_id == users.c.id)
        query = query.where(group_members.c.group_id == group_id)
        if after is not None:
            query = query.where(group_members.c.user_id > after)
        query = query.order_by(group_members.c.user_id).limit(min(limit, LIST_MAX))
        async with self._transaction() as connection:
            return [Member(user_of(row), row.added_at) for row in await connection.execute(query)]

    async def _meant(self, connection: AsyncConnection, group_id: UUID, user_ids: Sequence[UUID]) -> list[User]:
        """The users, locked in the order of their ids, and with them that the group is in force until the transaction
        ends."""
        alive = select(groups.c.id).where(groups.c.id == group_id, groups.c.retired_at.is_(None))
        if await connection.scalar(alive.with_for_update(read=True)) is None:
            raise LookupError(f"there is no group {group_id}")
        these = users.c.id.in_(user_ids)
        # Read after the locks are had: one statement would tell of the groups there were when it began to wait.
        await connection.execute(select(users.c.id).where(these).order_by(users.c.id).with_for_update(key_share=True))
        found = {row.id: user_of(row) for row in await connection.execute(users_where(these))}
        if missing := [each for each in user_ids if each not in found]:
            raise UnknownUsers(missing)
        return list(found.values())


def _check(user: User) -> None:
    if user.status == "deleted":
        raise Conflict("a deleted user joins no group")
    if len(user.groups) >= GROUPS_MAX:
        raise Conflict(f"a user belongs to {GROUPS_MAX} groups at most")

"""Two identities of one person become one account.

The source stays as a name that leads to the target for ever; its keys and memberships move. The money moves by
``Bank.merge``, which whoever merges calls afterwards: from here on nobody spends from the source's wallet any more.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.store import Conflict, audited, change_of, make_due
from accounts.tables import api_keys, group_members, users
from accounts.user_changes import TOUCHED, UserChanges, lock_user, write_user
from accounts.user_rows import user_of, users_where
from accounts.users import User
from ledger.audit import SYSTEM, Actor

# One merge at a time: a chain of them is flattened, which touches accounts that neither side names.
_MERGE_LOCK = 0x66625F6D657267  # "fb_merg"


class Merging(UserChanges):
    """What makes one account of two."""

    async def merge_users(self, source: UUID, target: UUID, *, by: Actor = SYSTEM) -> User | None:
        """Let ``target`` go on for ``source``: the target as it is afterwards, or None where one of them is not there.

        The same pair again changes nothing. Raises Conflict for an account and itself, for a target that is deleted or
        was merged itself, and for a source that was merged elsewhere.
        """
        if source == target:
            raise Conflict("an account cannot be merged into itself")
        async with self._transaction() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(_MERGE_LOCK)))
            both = {each: await lock_user(connection, each) for each in sorted((source, target))}
            leaving, staying = both[source], both[target]
            if leaving is None or staying is None:
                return None
            if leaving.merged_into == target:
                return staying
            _check(leaving, staying)
            return await _merge(connection, leaving, staying, by)


def _check(leaving: User, staying: User) -> None:
    if leaving.merged_into is not None:
        raise Conflict(f"this account was already merged into {leaving.merged_into}")
    if staying.status == "deleted":
        raise Conflict("an account cannot be merged into a deleted one")


async def _merge(connection: AsyncConnection, leaving: User, staying: User, by: Actor) -> User:
    keys = await _move_keys(connection, leaving.id, staying.id)
    await _move_memberships(connection, leaving.id, staying.id)
    earlier = update(users).where(users.c.merged_into == leaving.id)
    await connection.execute(earlier.values(merged_into=staying.id, updated_at=TOUCHED))
    gone: dict[str, Any] = {"status": "deleted", "merged_into": staying.id, "next_tier": None, "next_tier_at": None}
    await write_user(connection, leaving, gone)
    after = user_of((await connection.execute(users_where(users.c.id == staying.id))).one())
    await make_due(connection, [staying.wallet_id])
    before = {"status": leaving.status, "keys": keys, "groups": leaving.groups}
    await audited(
        connection,
        by,
        change_of("user.merge", "user", leaving.id, before, {"status": "deleted", "merged_into": staying.id}),
        change_of("user.merge", "user", staying.id, {"groups": staying.groups}, {"groups": after.groups, "keys": keys}),
    )
    return after


async def _move_keys(connection: AsyncConnection, source: UUID, target: UUID) -> list[UUID]:
    """Locked in the order of their ids, as by who notes when they were used."""
    mine = select(api_keys.c.id).where(api_keys.c.user_id == source).order_by(api_keys.c.id)
    ids = list(await connection.scalars(mine.with_for_update(key_share=True)))
    await connection.execute(update(api_keys).where(api_keys.c.id.in_(ids)).values(user_id=target))
    return ids


async def _move_memberships(connection: AsyncConnection, source: UUID, target: UUID) -> None:
    """Where both were members, one membership stays."""
    columns = (group_members.c.group_id, literal(target, Uuid), group_members.c.added_at)
    theirs = select(*columns).where(group_members.c.user_id == source)
    moved = insert(group_members).from_select(["group_id", "user_id", "added_at"], theirs)
    await connection.execute(moved.on_conflict_do_nothing())
    await connection.execute(delete(group_members).where(group_members.c.user_id == source))

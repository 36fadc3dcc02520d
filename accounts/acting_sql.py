"""Admins who act as a user: by a short-lived key that is marked, and recorded on both sides.

The audit has it under the user (who acted as this one?) and under the admin (as whom did this one act?); the calls made
with the key carry its id, and the key the admin's name.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, any_, func, literal, select, update

from accounts.keys import ACCOUNT, IMPERSONATION, INFERENCE, Key
from accounts.keys_sql import KEY_COLUMNS, Keys, facts_of, key_of
from accounts.store import LIST_MAX, Conflict, audited, change_of
from accounts.tables import api_keys
from accounts.user_changes import lock_user
from ledger.audit import SYSTEM, Actor, Change

_SCOPES = (IMPERSONATION, INFERENCE, ACCOUNT)
_REASON_MAX = 200


class Acting(Keys):
    """What can be done to the keys by which admins act as users."""

    async def act_as(
        self, user_id: UUID, *, until: datetime, reason: str, admin: str, by: Actor
    ) -> tuple[str, Key] | None:
        """A key of this user's for an admin, who is ``by`` in name and ``admin`` by id: its full text, which is nowhere
        kept, and what is. None where there is no such user. Raises Conflict for a user who may not call."""
        row: dict[str, Any] = {"name": reason[:_REASON_MAX], "user_id": user_id, "scopes": list(_SCOPES)}
        row |= {"expires_at": until, "acted_by": by.name}
        async with self._transaction() as connection:
            user = await lock_user(connection, user_id)
            if user is None:
                return None
            if user.status != "active":
                raise Conflict(f"this account is {user.status}: nobody can act as its user")
            full, key = await self._insert_key(connection, row)
            told = {"key": key.id, "until": until, "reason": reason}
            as_user = change_of("user.impersonate", "user", user_id, {}, {"admin": admin, **told})
            by_admin = Change("admin.impersonate", "admin", admin, None, {"user": user_id, **told})
            created = change_of("key.create", "key", key.id, {}, facts_of(key))
            await audited(connection, by, as_user, by_admin, created)
        return full, key

    async def list_acting(self, user_id: UUID, *, before: UUID | None = None, limit: int = 50) -> list[Key]:
        """The keys by which admins acted as this user, newest first, from behind the id ``before`` on, at most 1000."""
        query = select(*KEY_COLUMNS).where(*_acting_as(user_id)).order_by(api_keys.c.id.desc())
        if before is not None:
            query = query.where(api_keys.c.id < before)
        async with self._transaction() as connection:
            return [key_of(row) for row in await connection.execute(query.limit(min(limit, LIST_MAX)))]

    async def stop_acting(self, user_id: UUID, key_id: UUID, *, admin: str, by: Actor = SYSTEM) -> bool:
        """End it before its time; False where nobody acts as this user by this key."""
        alive = (*_acting_as(user_id), api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        statement = update(api_keys).where(*alive).values(revoked_at=func.now()).returning(api_keys.c.acted_by)
        async with self._transaction() as connection:
            acted_by = await connection.scalar(statement)
            if acted_by is None:
                return False
            told = {"key": key_id, "acted_by": acted_by}
            as_user = change_of("user.impersonate_end", "user", user_id, {"admin": admin, **told}, {})
            by_admin = Change("admin.impersonate_end", "admin", admin, {"user": user_id, **told}, None)
            await audited(connection, by, as_user, by_admin)
        return True


def _acting_as(user_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return api_keys.c.user_id == user_id, literal(IMPERSONATION) == any_(api_keys.c.scopes)

"""Users in the database: seen, made by hand, found, listed, changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.store import Conflict, audited, change_of
from accounts.tables import SINCE_EVER, api_keys, users
from accounts.user_changes import NOW, UserChanges, lock_user, recorded, write_user
from accounts.user_rows import USER_COLUMNS, answering_to, listed, user_of, users_where
from accounts.users import LOCAL_REALM, SUBJECT_MAX, TEXT_MAX, Role, Sighting, Status, User
from ledger.audit import SYSTEM, Actor
from ledger.ids import uuid7
from ledger.tables import wallets

_CHANGEABLE = frozenset(("email", "name", "role", "language", "status"))


class Users(UserChanges):
    """What can be done to users, but for their tiers."""

    async def sight(self, sighting: Sighting) -> User:
        """The account of a user just seen: made on first sight, its e-mail and name brought up to date. An identity
        that was merged leads to the account that goes on for it, and changes nothing there.

        However many calls see a new user at once, exactly one user and one wallet come of it.
        """
        async with self._transaction() as connection:
            user = await _find(connection, sighting)
            if user is None:
                user, _ = await self._make(connection, sighting, {"tier": self._default_tier})
            if user.merged_into is not None:
                return user_of((await connection.execute(users_where(users.c.id == user.merged_into))).one())
            if user.status != "deleted" and sighting.differs_from(user):
                said = {name: value for name in ("email", "name") if (value := getattr(sighting, name))}
                user = await write_user(connection, user, said)
        return user

    async def create_user(
        self,
        *,
        name: str,
        email: str = "",
        role: Role = "user",
        tier: str | None = None,
        language: str | None = None,
        realm: str = LOCAL_REALM,
        subject: str = "",
        only_new: bool = False,
        by: Actor = SYSTEM,
    ) -> User:
        """An account an operator makes by hand; a tier named here is pinned. An existing account of this realm and
        subject is returned as it is, or raises Conflict where it shall be ``only_new``."""
        sighting = Sighting(realm, subject or str(uuid7()), email[:TEXT_MAX], name[:TEXT_MAX])
        told: dict[str, Any] = {"role": role, "tier": tier or self._default_tier, "tier_pinned": tier is not None}
        told |= {"language": language} if language else {}
        async with self._transaction() as connection:
            user, made = await self._make(connection, sighting, told)
            if only_new and not made:
                raise Conflict(f"there is an account of this realm and subject already: {user.id}")
            if made:
                await audited(connection, by, recorded("user.create", None, user))
        return user

    async def user(self, user_id: UUID) -> User | None:
        """The user with this id, as it is: a merged one leads nowhere here."""
        return (await self.find_users([user_id])).get(user_id)

    async def find_users(self, user_ids: Sequence[UUID]) -> dict[UUID, User]:
        """The users with these ids and their groups, in one query."""
        async with self._transaction() as connection:
            found = await connection.execute(users_where(users.c.id.in_(user_ids)))
            return {row.id: user_of(row) for row in found}

    async def find_user(self, who: str) -> User | None:
        """The user with this id, subject or e-mail address; None where none or several answer to it."""
        async with self._transaction() as connection:
            found = (await connection.execute(users_where(answering_to(who)).limit(2))).all()
        return user_of(found[0]) if len(found) == 1 else None

    async def list_users(
        self,
        *,
        search: str = "",
        tier: str | None = None,
        status: Status | None = None,
        role: Role | None = None,
        group: UUID | None = None,
        deleted: bool = True,
        newest_first: bool = False,
        after: tuple[datetime, UUID] | None = None,
        limit: int = 50,
    ) -> list[User]:
        """One page of users by age, from behind ``after`` (created_at, id) on, at most 1000.

        ``search`` is a part of e-mail, name or subject, or an id; ``tier`` the user's own one. Without ``deleted``
        ones unless ``status`` asks for them.
        """
        equal = {"tier": tier, "status": status, "role": role}
        query = listed(search, group, equal, newest_first=newest_first, after=after, limit=limit)
        if not deleted and status is None:
            query = query.where(users.c.status != "deleted")
        async with self._transaction() as connection:
            return [user_of(row) for row in await connection.execute(query)]

    async def change_user(
        self, user_id: UUID, *, expected: datetime | None = None, by: Actor = SYSTEM, **changes: str
    ) -> User | None:
        """Another email, name, role, language or status; None where there is no such user.

        Raises StaleWrite where ``updated_at`` is not ``expected``, Conflict for the status of a merged account.
        """
        if unknown := changes.keys() - _CHANGEABLE:
            raise ValueError(f"this cannot be changed of a user: {', '.join(sorted(unknown))}")
        return await self._change(user_id, "user.change", dict(changes), by, expected=expected)

    async def set_status(self, user_id: UUID, status: Status, *, by: Actor = SYSTEM) -> User | None:
        """Suspend, delete (softly) or restore; None where there is no such user. Raises Conflict for a merged one."""
        return await self._change(user_id, "user.status", {"status": status}, by)

    async def revoke_sessions(self, user_id: UUID, *, by: Actor = SYSTEM) -> int:
        """Refuse every token issued so far and revoke the user's keys; how many keys. 0 where there is no such user."""
        async with self._transaction() as connection:
            user = await lock_user(connection, user_id)
            if user is None:
                return 0
            keys = await _revoke_keys(connection, user_id)
            user = await write_user(connection, user, {"sessions_from": NOW})
            after = {"sessions_from": user.sessions_from, "keys_revoked": keys}
            await audited(connection, by, change_of("user.sessions", "user", user_id, {}, after))
        return len(keys)

    async def _make(self, connection: AsyncConnection, sighting: Sighting, told: dict[str, Any]) -> tuple[User, bool]:
        """The user of this identity, and whether it was made here."""
        if not 0 < len(sighting.subject) <= SUBJECT_MAX:
            raise ValueError(f"a subject has 1 to {SUBJECT_MAX} characters")
        # Callers that see the same new user at once queue here, so that no wallet is made in vain.
        key = func.hashtextextended(f"{sighting.realm}\n{sighting.subject}", 0)
        await connection.execute(select(func.pg_advisory_xact_lock(key)))
        found = await _find(connection, sighting)
        if found is not None:
            return found, False
        return await _insert(connection, sighting, {"language": self._default_language, **told}), True


async def _find(connection: AsyncConnection, sighting: Sighting) -> User | None:
    query = users_where(users.c.realm == sighting.realm, users.c.subject == sighting.subject)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else user_of(row)


async def _insert(connection: AsyncConnection, sighting: Sighting, told: dict[str, Any]) -> User:
    wallet_id = uuid7()
    # Due: the bank books the tier's first allowance before it opens the first hold.
    await connection.execute(insert(wallets).values(id=wallet_id, due_at=SINCE_EVER))
    row = {"id": uuid7(), "wallet_id": wallet_id, "realm": sighting.realm, "subject": sighting.subject}
    row |= {"email": sighting.email, "name": sighting.name, **told}
    return user_of((await connection.execute(insert(users).values(row).returning(*USER_COLUMNS))).one())


async def _revoke_keys(connection: AsyncConnection, user_id: UUID) -> list[UUID]:
    """Locked in the order of their ids, as by who notes when they were used."""
    alive = select(api_keys.c.id).where(api_keys.c.user_id == user_id, api_keys.c.revoked_at.is_(None))
    ids = list(await connection.scalars(alive.order_by(api_keys.c.id).with_for_update(key_share=True)))
    await connection.execute(update(api_keys).where(api_keys.c.id.in_(ids)).values(revoked_at=func.now()))
    return ids

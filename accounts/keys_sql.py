"""Keys in the database: made, found, changed, rotated, revoked. What is kept of a key is not the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from sqlalchemy import func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.keys import CHARGES, FORWARD_USERS, IMPERSONATION, SCOPES, Key, Minted, digest_of, mint
from accounts.store import LIST_MAX, Conflict, Store, audited, change_of, difference
from accounts.tables import api_keys
from ledger.audit import SYSTEM, Actor
from ledger.ids import uuid7
from policies.key_limits import UNLIMITED, KeyLimits

KEY_COLUMNS = tuple(api_keys.c[name] for name in Key.__struct_fields__)
_UNRECORDED = frozenset(("id", "digest", "created_at", "last_used_at"))
# Locked in the order of their ids: two replicas that note the same keys must not wait for each other.
_NOTE_USED = text("""
    WITH noted AS (
        SELECT api_keys.id, used.at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:instants AS timestamptz[])) AS used (id, at)
        JOIN api_keys USING (id) ORDER BY api_keys.id FOR NO KEY UPDATE OF api_keys
    )
    UPDATE api_keys SET last_used_at = greatest(last_used_at, noted.at) FROM noted WHERE api_keys.id = noted.id
""")


class Keys(Store):
    """What can be done to keys. Effective on every replica within two seconds."""

    async def create_key(
        self,
        *,
        name: str,
        user_id: UUID | None = None,
        scopes: Sequence[str] = (),
        realm: str = "",
        plain_headers: bool = False,
        expires_at: datetime | None = None,
        limits: KeyLimits = UNLIMITED,
        acted_by: str = "",
        minted: Minted | None = None,
        by: Actor = SYSTEM,
    ) -> tuple[str, Key]:
        """A new key: its full text, which is nowhere kept, and what is.

        Raises ValueError for a scope nobody knows, and for a key that would speak for nobody: it needs a user, or
        a realm with forward_users or charges.
        """
        _check_scopes(scopes, user_id, realm)
        row: dict[str, Any] = {"name": name, "user_id": user_id, "scopes": list(scopes), "realm": realm}
        row |= {"plain_headers": plain_headers, "expires_at": expires_at, "acted_by": acted_by}
        row |= {"limits": _stored(limits)}
        async with self._transaction() as connection:
            full, key = await self._insert_key(connection, row, minted)
            await audited(connection, by, change_of("key.create", "key", key.id, {}, facts_of(key)))
        return full, key

    async def find_keys(self, prefixes: Sequence[str]) -> dict[str, Key]:
        """The keys with these prefixes, revoked and expired ones too, in one query."""
        async with self._transaction() as connection:
            query = select(*KEY_COLUMNS).where(api_keys.c.prefix.in_(prefixes))
            return {row.prefix: key_of(row) for row in await connection.execute(query)}

    async def find_key(self, key_id: UUID) -> Key | None:
        """The key with this id, revoked and expired ones too."""
        async with self._transaction() as connection:
            row = (await connection.execute(select(*KEY_COLUMNS).where(api_keys.c.id == key_id))).one_or_none()
        return None if row is None else key_of(row)

    async def list_keys(
        self,
        user_id: UUID | None = None,
        *,
        search: str = "",
        alive: bool = False,
        services: bool = False,
        after: UUID | None = None,
        limit: int = LIST_MAX,
    ) -> list[Key]:
        """Keys, oldest first, from behind the id ``after`` on, at most 1000: one user's, or everybody's. ``search`` is
        a part of the name, realm or prefix; only those neither revoked nor expired where ``alive``, only those without
        a user where ``services``."""
        query = select(*KEY_COLUMNS).order_by(api_keys.c.id).limit(min(limit, LIST_MAX))
        if user_id is not None:
            query = query.where(api_keys.c.user_id == user_id)
        if services:
            query = query.where(api_keys.c.user_id.is_(None))
        if after is not None:
            query = query.where(api_keys.c.id > after)
        if search:
            texts = (func.lower(api_keys.c.name), func.lower(api_keys.c.realm), api_keys.c.prefix)
            query = query.where(or_(*(each.contains(search.lower(), autoescape=True) for each in texts)))
        if alive:
            unexpired = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now())
            query = query.where(api_keys.c.revoked_at.is_(None), unexpired)
        async with self._transaction() as connection:
            return [key_of(row) for row in await connection.execute(query)]

    async def change_key(
        self,
        key_id: UUID,
        *,
        name: str | UnsetType = UNSET,
        scopes: Sequence[str] | UnsetType = UNSET,
        limits: KeyLimits | UnsetType = UNSET,
        expires_at: datetime | UnsetType | None = UNSET,
        by: Actor = SYSTEM,
    ) -> Key | None:
        """Another name, scopes, limits or end; None where there is no such key.

        Raises ValueError as ``create_key``, Conflict for a revoked key and for one by which somebody acts as its user.
        """
        given = {"name": name, "scopes": scopes, "limits": limits, "expires_at": expires_at}
        async with self._transaction() as connection:
            before = await _lock_key(connection, key_id)
            if before is None:
                return None
            _check_ordinary(before)
            after = replace(before, **_told(before, given))
            _check_scopes(after.scopes, after.user_id, after.realm)
            if after != before:
                await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(_changeable(after)))
                await audited(connection, by, change_of("key.change", "key", key_id, *_recorded(before, after)))
        return after

    async def revoke_key(self, key_id: UUID, *, by: Actor = SYSTEM) -> bool:
        """False where there is no such key, or it was revoked before."""
        statement = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        async with self._transaction() as connection:
            revoked = statement.values(revoked_at=func.now()).returning(api_keys.c.revoked_at)
            at = await connection.scalar(revoked)
            if at is not None:
                change = change_of("key.revoke", "key", key_id, {"revoked_at": None}, {"revoked_at": at})
                await audited(connection, by, change)
        return at is not None

    async def rotate_key(self, key_id: UUID, overlap: timedelta, *, by: Actor = SYSTEM) -> tuple[str, Key] | None:
        """A key in this one's place, with all it may do and its counters; this one goes on for ``overlap`` beside it.
        None where there is no such key.

        Raises ValueError for an overlap below zero, Conflict for a key that is revoked, has expired, or by which
        somebody acts as its user.
        """
        if overlap < timedelta(0):
            raise ValueError("an overlap cannot be below zero")
        async with self._transaction() as connection:
            old = await _lock_key(connection, key_id)
            if old is None:
                return None
            now = datetime.now(UTC)
            _check_ordinary(old, now)
            full, key = await self._insert_key(connection, _successor(old))
            ends = min(now + overlap, old.expires_at or now + overlap)
            await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(expires_at=ends))
            sides = {"expires_at": old.expires_at}, {"expires_at": ends, "rotated_to": key.id}
            created = change_of("key.create", "key", key.id, {}, facts_of(key))
            await audited(connection, by, change_of("key.rotate", "key", key_id, *sides), created)
        return full, key

    async def note_used(self, used: Mapping[UUID, float]) -> None:
        """When keys were last used (seconds since 1970), for many of them in one statement."""
        instants = [datetime.fromtimestamp(seconds, UTC) for seconds in used.values()]
        async with self._transaction() as connection:
            await connection.execute(_NOTE_USED, {"ids": list(used), "instants": instants})

    async def _insert_key(
        self, connection: AsyncConnection, row: dict[str, Any], minted: Minted | None = None
    ) -> tuple[str, Key]:
        full, prefix, secret = minted or mint()
        row = row | {"id": uuid7(), "prefix": prefix, "digest": digest_of(self.pepper, secret)}
        inserted = await connection.execute(insert(api_keys).values(row).returning(*KEY_COLUMNS))
        return full, key_of(inserted.one())


async def _lock_key(connection: AsyncConnection, key_id: UUID) -> Key | None:
    query = select(*KEY_COLUMNS).where(api_keys.c.id == key_id).with_for_update(key_share=True)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else key_of(row)


def _check_scopes(scopes: Sequence[str], user_id: UUID | None, realm: str) -> None:
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise ValueError(f"there is no scope {unknown[0]}; known are {', '.join(SCOPES)}")
    if user_id is None and not (realm and {FORWARD_USERS, CHARGES}.intersection(scopes)):
        raise ValueError(f"a key needs a user, or a realm whose users it speaks for with {FORWARD_USERS} or {CHARGES}")


def _check_ordinary(key: Key, now: datetime | None = None) -> None:
    if key.revoked_at is not None:
        raise Conflict("this key is revoked, for ever")
    if IMPERSONATION in key.scopes:
        raise Conflict("a key by which somebody acts as its user is not changed; make another one")
    if now is not None and key.expires_at is not None and key.expires_at <= now:
        raise Conflict("this key has expired; make another one")


def _told(key: Key, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, as a key has it."""
    told = {name: value for name, value in given.items() if value is not UNSET}
    if "scopes" in told:
        told["scopes"] = tuple(told["scopes"])
    if "limits" in told:
        told["limits"] = told["limits"].owned_by(key.counted_as)
    return told


def _changeable(key: Key) -> dict[str, Any]:
    row = {"name": key.name, "scopes": list(key.scopes), "expires_at": key.expires_at}
    return row | {"limits": _stored(key.limits)}


def _successor(old: Key) -> dict[str, Any]:
    row = _changeable(old) | {"user_id": old.user_id, "realm": old.realm, "plain_headers": old.plain_headers}
    return row | {"acted_by": old.acted_by, "rotated_from": old.counted_as}


def _recorded(before: Key, after: Key) -> tuple[dict[str, Any], dict[str, Any]]:
    was, is_ = difference(before, after)
    for side in (was, is_):
        if "limits" in side:
            side["limits"] = _stored(side["limits"])
    return was, is_


def facts_of(key: Key) -> dict[str, Any]:
    """The key as the audit has it."""
    facts = {name: getattr(key, name) for name in Key.__struct_fields__ if name not in _UNRECORDED}
    return facts | {"limits": _stored(key.limits)}


def _stored(limits: KeyLimits) -> Any:
    return msgspec.to_builtins(limits.bare())


def key_of(row: Any) -> Key:
    """A key of a row of ``KEY_COLUMNS``."""
    limits = msgspec.convert(row.limits, KeyLimits).owned_by(row.rotated_from or row.id)
    return Key(**(dict(row._mapping) | {"scopes": tuple(row.scopes), "limits": limits}))

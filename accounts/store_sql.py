"""Users and keys in the database: the only SQL about them. Remembers nothing (see ``directory.py``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal_column, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from accounts.keys import FORWARD_USERS, Key, Minted, digest_of, fingerprint, mint
from accounts.tables import api_keys, secret_fingerprints, users
from accounts.users import LOCAL_REALM, SUBJECT_MAX, TEXT_MAX, Role, Sighting, Status, User
from ledger.ids import uuid7
from ledger.tables import wallets

_PEPPER = "key_pepper"
_LIST_MAX = 1000
_KEY_COLUMNS = tuple(api_keys.c[name] for name in Key.__struct_fields__)
_SINCE_EVER: ColumnElement[Any] = literal_column("'-infinity'::timestamptz")
# Locked in the order of their ids: two replicas that note the same keys must not wait for each other.
_NOTE_USED = text("""
    WITH noted AS (
        SELECT api_keys.id, used.at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:instants AS timestamptz[])) AS used (id, at)
        JOIN api_keys USING (id) ORDER BY api_keys.id FOR NO KEY UPDATE OF api_keys
    )
    UPDATE api_keys SET last_used_at = greatest(last_used_at, noted.at) FROM noted WHERE api_keys.id = noted.id
""")
_USER_COLUMNS = tuple(users.c[name] for name in User.__struct_fields__)


class AccountsUnavailable(Exception):
    """The database of the accounts did not answer."""


class PepperMismatch(Exception):
    """This process was given another pepper than the one the stored keys were made with."""


class Accounts:
    """What can be done to users and keys. Every method may raise AccountsUnavailable."""

    def __init__(self, engine: AsyncEngine, *, pepper: bytes, default_tier: str, default_language: str = "en") -> None:
        self._engine = engine
        self.pepper = pepper
        self._default_tier = default_tier
        self._default_language = default_language

    async def check_pepper(self) -> None:
        """Raises PepperMismatch where other replicas use another pepper; the first replica ever decides which it is."""
        ours = fingerprint(self.pepper)
        async with self._transaction() as connection:
            row = {"name": _PEPPER, "fingerprint": ours}
            await connection.execute(insert(secret_fingerprints).values(row).on_conflict_do_nothing())
            known = select(secret_fingerprints.c.fingerprint).where(secret_fingerprints.c.name == _PEPPER)
            theirs = await connection.scalar(known)
        if theirs != ours:
            raise PepperMismatch(
                "FAREBOX_KEY_PEPPER is not the one this database's keys were made with: no key would be accepted. "
                "Give this process the same pepper as the others (without the setting it is in the data folder)."
            )

    # -- users

    async def sight(self, sighting: Sighting) -> User:
        """The account of a user just seen: made on first sight, its e-mail and name brought up to date.

        However many calls see a new user at once, exactly one user and one wallet come of it.
        """
        async with self._transaction() as connection:
            user = await self._find(connection, sighting.realm, sighting.subject)
            if user is None:
                user = await self._make(connection, sighting, role="user", tier=self._default_tier)
            if user.status != "deleted" and sighting.differs_from(user):
                user = await self._follow(connection, user.id, sighting)
        return user

    async def create_user(
        self, *, name: str, email: str = "", role: Role = "user", tier: str | None = None, subject: str = ""
    ) -> User:
        """An account an operator makes by hand; an existing one of this subject is returned as it is."""
        sighting = Sighting(LOCAL_REALM, subject or str(uuid7()), email[:TEXT_MAX], name[:TEXT_MAX])
        async with self._transaction() as connection:
            return await self._make(connection, sighting, role=role, tier=tier or self._default_tier)

    async def user(self, user_id: UUID) -> User | None:
        """The user with this id."""
        return (await self.find_users([user_id])).get(user_id)

    async def find_users(self, user_ids: Sequence[UUID]) -> dict[UUID, User]:
        """The users with these ids, in one query."""
        async with self._transaction() as connection:
            query = select(*_USER_COLUMNS).where(users.c.id.in_(user_ids))
            return {row.id: _user(row) for row in await connection.execute(query)}

    async def find_user(self, who: str) -> User | None:
        """The user with this id, subject or e-mail address; None where none or several answer to it."""
        matches: list[ColumnElement[bool]] = [users.c.subject == who, func.lower(users.c.email) == who.lower()]
        with suppress(ValueError):
            matches.append(users.c.id == UUID(who))
        async with self._transaction() as connection:
            found = (await connection.execute(select(*_USER_COLUMNS).where(or_(*matches)).limit(2))).all()
        return _user(found[0]) if len(found) == 1 else None

    async def set_tier(self, user_id: UUID, tier: str) -> User | None:
        """Effective on every replica within two seconds; None where there is no such user."""
        return await self._change_user(user_id, tier=tier, wallet_due=True)

    async def set_status(self, user_id: UUID, status: Status) -> User | None:
        """Suspend, delete (softly) or restore; None where there is no such user."""
        return await self._change_user(user_id, status=status)

    # -- keys

    async def create_key(
        self,
        *,
        name: str,
        user_id: UUID | None = None,
        scopes: Sequence[str] = (),
        realm: str = "",
        plain_headers: bool = False,
        expires_at: datetime | None = None,
        minted: Minted | None = None,
    ) -> tuple[str, Key]:
        """A new key: its full text, which is nowhere kept, and what is.

        Raises ValueError for a key that would speak for nobody: it needs a user, or forward_users and a realm.
        """
        if user_id is None and not (FORWARD_USERS in scopes and realm):
            raise ValueError(f"a key needs a user, or the scope {FORWARD_USERS} and a realm for the users it forwards")
        full, prefix, secret = minted or mint()
        row = {"id": uuid7(), "prefix": prefix, "digest": digest_of(self.pepper, secret), "user_id": user_id}
        row |= {"name": name, "scopes": list(scopes), "realm": realm, "plain_headers": plain_headers}
        statement = insert(api_keys).values(row | {"expires_at": expires_at}).returning(*_KEY_COLUMNS)
        async with self._transaction() as connection:
            return full, _key((await connection.execute(statement)).one())

    async def find_keys(self, prefixes: Sequence[str]) -> dict[str, Key]:
        """The keys with these prefixes, revoked and expired ones too, in one query."""
        async with self._transaction() as connection:
            query = select(*_KEY_COLUMNS).where(api_keys.c.prefix.in_(prefixes))
            return {row.prefix: _key(row) for row in await connection.execute(query)}

    async def list_keys(self, user_id: UUID | None = None, *, limit: int = _LIST_MAX) -> list[Key]:
        """Keys, oldest first: one user's, or everybody's."""
        query = select(*_KEY_COLUMNS).order_by(api_keys.c.id).limit(min(limit, _LIST_MAX))
        if user_id is not None:
            query = query.where(api_keys.c.user_id == user_id)
        async with self._transaction() as connection:
            return [_key(row) for row in await connection.execute(query)]

    async def revoke_key(self, key_id: UUID) -> bool:
        """Effective on every replica within two seconds. False where there is no such key, or it was revoked before."""
        statement = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        async with self._transaction() as connection:
            return (await connection.execute(statement.values(revoked_at=func.now()))).rowcount == 1

    async def note_used(self, used: Mapping[UUID, float]) -> None:
        """When keys were last used (seconds since 1970), for many of them in one statement."""
        instants = [datetime.fromtimestamp(seconds, UTC) for seconds in used.values()]
        async with self._transaction() as connection:
            await connection.execute(_NOTE_USED, {"ids": list(used), "instants": instants})

    # -- steps

    async def _find(self, connection: AsyncConnection, realm: str, subject: str) -> User | None:
        query = select(*_USER_COLUMNS).where(users.c.realm == realm, users.c.subject == subject)
        row = (await connection.execute(query)).one_or_none()
        return None if row is None else _user(row)

    async def _make(self, connection: AsyncConnection, sighting: Sighting, *, role: Role, tier: str) -> User:
        if not 0 < len(sighting.subject) <= SUBJECT_MAX:
            raise ValueError(f"a subject has 1 to {SUBJECT_MAX} characters")
        # Callers that see the same new user at once queue here, so that no wallet is made in vain.
        key = func.hashtextextended(f"{sighting.realm}\n{sighting.subject}", 0)
        await connection.execute(select(func.pg_advisory_xact_lock(key)))
        found = await self._find(connection, sighting.realm, sighting.subject)
        if found is not None:
            return found
        return await self._insert(connection, sighting, role=role, tier=tier)

    async def _insert(self, connection: AsyncConnection, sighting: Sighting, *, role: Role, tier: str) -> User:
        wallet_id = uuid7()
        # Due: the bank books the tier's first allowance before it opens the first hold.
        await connection.execute(insert(wallets).values(id=wallet_id, due_at=_SINCE_EVER))
        row = {"id": uuid7(), "wallet_id": wallet_id, "realm": sighting.realm, "subject": sighting.subject}
        row |= {"email": sighting.email, "name": sighting.name, "role": role, "tier": tier}
        statement = insert(users).values(row | {"language": self._default_language}).returning(*_USER_COLUMNS)
        return _user((await connection.execute(statement)).one())

    async def _follow(self, connection: AsyncConnection, user_id: UUID, sighting: Sighting) -> User:
        news = {name: value for name in ("email", "name") if (value := getattr(sighting, name))}
        statement = update(users).where(users.c.id == user_id).values(news | {"updated_at": func.now()})
        return _user((await connection.execute(statement.returning(*_USER_COLUMNS))).one())

    async def _change_user(self, user_id: UUID, *, wallet_due: bool = False, **news: str) -> User | None:
        statement = update(users).where(users.c.id == user_id).values(news | {"updated_at": func.now()})
        async with self._transaction() as connection:
            row = (await connection.execute(statement.returning(*_USER_COLUMNS))).one_or_none()
            if row is not None and wallet_due:
                # So that the bank looks for an allowance of the new tier before the next hold.
                await connection.execute(
                    update(wallets).where(wallets.c.id == row.wallet_id).values(due_at=_SINCE_EVER)
                )
        return None if row is None else _user(row)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise AccountsUnavailable(f"the accounts' database did not answer: {type(error).__name__}") from error


def _user(row: Any) -> User:
    return User(**row._mapping)


def _key(row: Any) -> Key:
    return Key(**(dict(row._mapping) | {"scopes": tuple(row.scopes)}))

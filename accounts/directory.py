"""Who is who, from memory: the accounts and keys a process has met, forgotten as soon as another replica changes them.

What is remembered of a key is found by the SHA-256 of what was presented, so that no key stands in memory. A presented
key that is wrong is remembered apart and briefly: a flood of them pushes nothing useful out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from hashlib import sha256
from uuid import UUID

from accounts.cache import Cache
from accounts.keys import Key, parse, proves
from accounts.lookups import Lookups
from accounts.store_sql import Accounts, AccountsUnavailable
from accounts.users import Sighting, User

_UNKNOWN_S = 10.0
_UNKNOWN_MAX = 10_000
# While no notice of changes can reach us, nothing is believed for longer than this.
_DEAF_S = 1.0
_FLUSH_S = 30.0
_FOREVER = float("inf")

_log = logging.getLogger("farebox.accounts")


class Directory:
    """The caches of one process, in front of ``Accounts``; a ``config.watch.Listener``."""

    def __init__(self, accounts: Accounts, *, keys_max: int = 50_000, users_max: int = 100_000) -> None:
        self._accounts = accounts
        self._keys: Cache[bytes, Key] = Cache(keys_max)
        self._presented: Cache[UUID, bytes] = Cache(keys_max)
        self._unknown: Cache[bytes, bool] = Cache(_UNKNOWN_MAX)
        self._users: Cache[UUID, User] = Cache(users_max)
        self._ids: Cache[tuple[str, str], UUID] = Cache(users_max)
        self._key_lookups: Lookups[str, Key] = Lookups(accounts.find_keys)
        self._user_lookups: Lookups[UUID, User] = Lookups(accounts.find_users)
        self._sightings: dict[tuple[str, str], asyncio.Task[User]] = {}
        self._used: dict[UUID, float] = {}
        self._used_max = keys_max
        self._deaf = False
        # Counts what was told to be forgotten: an answer asked for before that is used once and not remembered.
        self._epoch = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to note, now and then, when keys were last used."""
        self._task = asyncio.create_task(self._flush_often(), name="keys-last-used")

    async def aclose(self) -> None:
        """Stop, and note what has not been noted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._sightings.values(), return_exceptions=True)
        await self._key_lookups.aclose()
        await self._user_lookups.aclose()
        await self.flush()

    # -- who is it?

    async def key(self, presented: str) -> Key | None:
        """The stored key behind what was presented, proven; revoked and expired ones too. None for any other text.

        Raises AccountsUnavailable or TooManyLookups where it is not known from memory and cannot be asked for.
        """
        digest, now = sha256(presented.encode()).digest(), time.monotonic()
        key = self._keys.get(digest, now)
        if key is None and self._unknown.get(digest, now) is None:
            key = await self._prove(presented, digest)
        if key is not None:
            self.used(key.id, time.time())
        return key

    @property
    def epoch(self) -> int | None:
        """Changes with whatever changes: what was found under one number is true as long as it stays. None: nobody
        would tell us of a change."""
        return None if self._deaf else self._epoch

    def used(self, key_id: UUID, now: float) -> None:
        """Note that a key was used at this Unix time."""
        if len(self._used) < self._used_max:
            self._used[key_id] = now

    async def user(self, user_id: UUID) -> User | None:
        """The account with this id, or the one that goes on for it. Raises AccountsUnavailable or TooManyLookups."""
        user = await self._user(user_id)
        while user is not None and user.merged_into is not None:
            user = await self._user(user.merged_into)
        return user

    async def sighted(self, sighting: Sighting) -> User:
        """The account of a user named by a token or header, made where it is new; of a merged identity, the account
        that goes on for it. Raises AccountsUnavailable."""
        now = time.monotonic()
        user_id = self._ids.get((sighting.realm, sighting.subject), now)
        user = None if user_id is None else self._users.get(user_id, now)
        if user is None or user.merged_into is not None:
            return await self._sight(sighting)
        if user.status != "deleted" and sighting.differs_from(user):
            return await self._sight(sighting)
        return user

    async def flush(self) -> None:
        """Write down when keys were last used; what cannot be written is kept for the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._accounts.note_used(used)
        except AccountsUnavailable as error:
            self._used = used | self._used
            _log.warning("last use of keys not noted", extra={"error": str(error), "keys": len(used)})

    # -- what others change

    def changed(self, table: str, key: str) -> None:
        if table not in ("users", "api_keys"):
            return
        self._epoch += 1
        if table == "users":
            self._users.drop(UUID(key))
        elif (presented := self._presented.get(UUID(key), 0.0)) is not None:
            self._keys.drop(presented)

    def everything_changed(self, *, listening: bool) -> None:
        self._epoch += 1
        self._deaf = not listening
        for cache in (self._keys, self._presented, self._unknown, self._users):
            cache.clear()

    # -- steps

    async def _user(self, user_id: UUID) -> User | None:
        user = self._users.get(user_id, time.monotonic())
        if user is None:
            epoch = self._epoch
            user = await self._user_lookups.find(user_id)
            if user is not None:
                self._remember(user, epoch)
        return user

    async def _prove(self, presented: str, digest: bytes) -> Key | None:
        parts = parse(presented)
        if parts is None:
            return None
        epoch = self._epoch
        key = await self._key_lookups.find(parts.prefix)
        # Proven even where nothing was found, so that the time taken does not tell which prefixes exist.
        if not proves(self._accounts.pepper, parts.secret, None if key is None else key.digest) or key is None:
            self._unknown.put(digest, True, time.monotonic() + _UNKNOWN_S)
            return None
        if epoch == self._epoch:
            self._keys.put(digest, key, self._until())
            self._presented.put(key.id, digest)
        return key

    async def _sight(self, sighting: Sighting) -> User:
        """Calls that see the same user at once share one transaction, which outlives a caller who leaves."""
        who = (sighting.realm, sighting.subject)
        task = self._sightings.get(who)
        if task is None:
            task = asyncio.create_task(self._sight_once(sighting), name="sighting")
            self._sightings[who] = task
            task.add_done_callback(lambda done: self._sighted(who, done))
        return await asyncio.shield(task)

    def _sighted(self, who: tuple[str, str], task: asyncio.Task[User]) -> None:
        del self._sightings[who]
        if not task.cancelled():
            task.exception()  # read, because every caller may have left before it failed

    async def _sight_once(self, sighting: Sighting) -> User:
        epoch = self._epoch
        user = await self._accounts.sight(sighting)
        self._ids.put((sighting.realm, sighting.subject), user.id)
        self._remember(user, epoch)
        return user

    def _remember(self, user: User, epoch: int) -> None:
        if epoch == self._epoch:
            self._users.put(user.id, user, self._until())

    def _until(self) -> float:
        return time.monotonic() + _DEAF_S if self._deaf else _FOREVER

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            await self.flush()

"""Proves who a caller is: the admin key, an access token of a live session, or a Farebox key that may book charges."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from math import ceil
from uuid import UUID

from accounts.keys import CHARGES, Key, looks_like_key, parse, proves
from accounts.store_sql import Accounts
from admin_api.access import ADMIN_KEY, Caller
from admin_api.address import counted_as
from admin_api.problems import Problem, too_many, unauthenticated
from admin_api.sessions import Sessions
from admin_api.tokens import Tokens
from admin_api.tries import Tries
from ledger.audit import Actor

_log = logging.getLogger("farebox.admin")
_MISSING = "Send the admin key, or the access token of POST /admin/api/v1/auth/login, as Authorization: Bearer …"
_WRONG = "This is neither the admin key nor an access token of ours."
_EXPIRED = "The access token has expired: renew it with POST /admin/api/v1/auth/refresh."
_ENDED = "The session has ended: log in again."
_KEY_ENDED = "This key is revoked, expired or unknown, or may not book charges."


class Gatekeeper:
    """Bearer in, Caller out. Wrong tries are counted by address; what has merely ended is no wrong try.

    ``tries`` counts wrong bearers. ``logins`` counts refused logins: the history in the database decides about those,
    and this only keeps a flood of them from reaching it.
    """

    def __init__(
        self,
        *,
        admin_key: str | None,
        tokens: Tokens,
        sessions: Sessions,
        accounts: Accounts,
        tries: Tries,
        logins: Tries,
        now: Callable[[], datetime],
    ) -> None:
        self._admin_key = admin_key.encode() if admin_key else None
        self._tokens = tokens
        self._sessions = sessions
        self._accounts = accounts
        self._tries = tries
        self._logins = logins
        self._now = now

    async def caller(self, authorization: str | None, address: str, request_id: UUID) -> Caller:
        """Who it is. Raises Problem: 401, or 429 for an address with too many wrong tries."""
        _wait(self._tries, address)
        scheme, _, bearer = (authorization or "").partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or not bearer:
            raise unauthenticated(_MISSING)
        if self._is_admin_key(bearer):
            return Caller(Actor(ADMIN_KEY, "owner", address, request_id), "owner")
        if looks_like_key(bearer):
            return await self._of_key(bearer, address, request_id)
        return await self._of_session(bearer, address, request_id)

    @contextmanager
    def stranger(self, address: str) -> Iterator[None]:
        """Around a request that needs no bearer. Raises Problem 429 where this address was refused too often."""
        _wait(self._logins, address)
        try:
            yield
        except Problem as problem:
            if problem.status in (401, 429):
                self._logins.wrong(counted_as(address))
            raise

    def _is_admin_key(self, bearer: str) -> bool:
        return self._admin_key is not None and hmac.compare_digest(bearer.encode(), self._admin_key)

    async def _of_session(self, bearer: str, address: str, request_id: UUID) -> Caller:
        access = self._tokens.read_access(bearer, self._now())
        if access is None:
            raise self._wrong(address, _WRONG)
        if access.expired:
            raise unauthenticated(_EXPIRED)
        standing = await self._sessions.standing(access.session_id)
        if standing is None:
            raise unauthenticated(_ENDED)
        actor = Actor(standing.email, standing.role, address, request_id)
        return Caller(actor, standing.role, standing.admin_id, standing.session_id)

    async def _of_key(self, bearer: str, address: str, request_id: UUID) -> Caller:
        presented = parse(bearer)
        key = (await self._accounts.find_keys([presented.prefix])).get(presented.prefix) if presented else None
        if presented is None or not proves(self._accounts.pepper, presented.secret, key.digest if key else None):
            raise self._wrong(address, _KEY_ENDED)
        if key is None or not _may_charge(key, self._now()):
            raise unauthenticated(_KEY_ENDED)
        return Caller(Actor(f"key:{key.name}", CHARGES, address, request_id), "charges", key_id=key.id)

    def _wrong(self, address: str, detail: str) -> Problem:
        self._tries.wrong(counted_as(address))
        _log.warning("wrong bearer", extra={"address": address})
        return unauthenticated(detail)


def _wait(tries: Tries, address: str) -> None:
    if wait := tries.wait_s(counted_as(address)):
        raise too_many("Too many wrong tries from your address.", ceil(wait))


def _may_charge(key: Key, now: datetime) -> bool:
    live = key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
    return live and CHARGES in key.scopes

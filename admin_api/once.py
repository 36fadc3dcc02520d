"""Idempotency keys: a write that is sent again is done once, and its reply told again.

The same key with the same request gives the stored reply (header ``idempotency-replayed: true``); with another request
422; while the first is still running 409. Only what succeeded is stored: a refused request changed nothing, and may be
mended and sent again under its key.

A reply may hold a key that is shown once, so it is stored sealed under a secret the database does not have.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Depends, Header, Request
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admin_api.access import Caller
from admin_api.problems import Problem, conflict, wrong_parameter
from admin_api.secret import derived

HEADER = "idempotency-key"
_NONCE_BYTES = 12
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
# A row that runs for longer than any request may has lost its process: it is taken over.
_TAKE = text("""
    INSERT INTO idempotency_keys AS known (actor, key, digest) VALUES (:actor, :key, :digest)
    ON CONFLICT (actor, key) DO UPDATE SET digest = :digest, status = NULL, headers = NULL, body = NULL, at = now()
    WHERE known.at < now() - interval '24 hours'
       OR (known.status IS NULL AND known.at < now() - interval '2 minutes')
    RETURNING true
""")
_READ = text("SELECT digest, status, headers, body FROM idempotency_keys WHERE actor = :actor AND key = :key")
_STORE = text("""
    UPDATE idempotency_keys SET status = :status, headers = CAST(:headers AS jsonb), body = :body
    WHERE actor = :actor AND key = :key AND digest = :digest AND status IS NULL
""")
_FREE = text("DELETE FROM idempotency_keys WHERE actor = :actor AND key = :key AND digest = :digest AND status IS NULL")
_SWEEP = text("DELETE FROM idempotency_keys WHERE at < now() - interval '24 hours'")


@dataclass(frozen=True, slots=True)
class Stored:
    """A reply that was told before."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """This request under its key: whoever has the claim does the work."""

    actor: str
    key: str
    digest: bytes

    @property
    def values(self) -> dict[str, object]:
        return {"actor": self.actor, "key": self.key, "digest": self.digest}


class Once:
    """The keys of the last 24 hours."""

    def __init__(self, engine: AsyncEngine, pepper: bytes) -> None:
        self._engine = engine
        self._mark = derived(pepper, "idempotency digest")
        self._seal = AESGCM(derived(pepper, "idempotency reply"))

    def claim(self, caller: Caller, key: str, request: bytes) -> Claim:
        """Name this request under its key. Raises Problem 422 for a key that cannot be one."""
        if not _KEY.fullmatch(key):
            raise wrong_parameter(HEADER, "must be 1 to 200 printable characters without spaces")
        # The role is part of it: what an owner did is not told again to the same person as support.
        return Claim(f"{caller.scope}/{caller.role}", key, hmac.digest(self._mark, request, hashlib.sha256))

    async def take(self, claim: Claim) -> Stored | None:
        """None: the work is ours to do. Otherwise the reply that was told before. Raises Problem 409 and 422."""
        async with self._engine.begin() as connection:
            if (await connection.execute(_TAKE, claim.values)).one_or_none():
                return None
            row = (await connection.execute(_READ, {"actor": claim.actor, "key": claim.key})).one_or_none()
        if row is not None and not hmac.compare_digest(row.digest, claim.digest):
            raise Problem(422, "Not valid", "This Idempotency-Key was used for another request.", code="key-reused")
        if row is None or row.status is None:
            raise conflict("The first request with this Idempotency-Key is still running.", retry_after_s=1)
        return Stored(row.status, [(name, value) for name, value in row.headers], self._opened(claim, row.body))

    async def store(self, claim: Claim, reply: Stored) -> None:
        """Keep what was told."""
        values = {"status": reply.status, "headers": msgspec.json.encode(reply.headers).decode()}
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._seal.encrypt(nonce, reply.body, claim.digest)
        async with self._engine.begin() as connection:
            await connection.execute(_STORE, {**claim.values, **values, "body": sealed})

    async def free(self, claim: Claim) -> None:
        """Nothing came of it: the key may be used again."""
        async with self._engine.begin() as connection:
            await connection.execute(_FREE, claim.values)

    async def sweep(self) -> None:
        """Forget what is older than a day."""
        async with self._engine.begin() as connection:
            await connection.execute(_SWEEP)

    def _opened(self, claim: Claim, sealed: bytes) -> bytes:
        return self._seal.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], claim.digest)


_DESCRIBED = Header(
    alias="Idempotency-Key",
    max_length=200,
    description="A name of yours for this write; sent again within 24 hours it is not done twice.",
    examples=["credit-2026-11-21-0001"],
)


def _source(request: Request, key: Annotated[str | None, _DESCRIBED] = None) -> str:
    caller: Caller = request.state.caller
    return f"api:{caller.scope}:{key}" if key else f"api:{caller.actor.request_id}"


Source = Annotated[str, Depends(_source)]
"""Where money moves, the ledger's own key for doing it once: from the Idempotency-Key, else from the request's id."""

"""The two tokens of a login: a short one that says who it is, a long one that is good for one renewal.

The access token is a JWT (HS256) of 15 minutes. The refresh token names its session and its generation and is sealed by
an HMAC: a forged one is told from an old one without asking anybody, and only an old one can end a session.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import jwt

from admin_api.secret import derived

ACCESS_S = 15 * 60
_AUDIENCE = "farebox-admin"
_LEAD = "fbr_"
_CLAIMS = ("sub", "role", "sid", "iat", "exp", "aud")
_ID, _GENERATION, _NONCE, _SEAL = 16, 4, 16, 32


class Access(NamedTuple):
    """What a valid access token says."""

    admin_id: UUID
    session_id: UUID
    expired: bool


class Refresh(NamedTuple):
    """What an authentic refresh token says; whether it is the last of its session, its digest tells."""

    session_id: UUID
    generation: int
    digest: bytes


class Tokens:
    """Mints and reads both, under keys derived from the pepper: every replica's are good on every other."""

    def __init__(self, pepper: bytes) -> None:
        self._access_key = derived(pepper, "access token")
        self._refresh_key = derived(pepper, "refresh token")

    def access(self, admin_id: UUID, role: str, session_id: UUID, now: datetime) -> str:
        """An access token for this session."""
        claims: dict[str, Any] = {"sub": str(admin_id), "role": role, "sid": str(session_id), "aud": _AUDIENCE}
        claims |= {"iat": int(now.timestamp()), "exp": int((now + timedelta(seconds=ACCESS_S)).timestamp())}
        return jwt.encode(claims, self._access_key, "HS256")

    def read_access(self, token: str, now: datetime) -> Access | None:
        """What the token says; None for one that is not ours. One that has expired is ours all the same."""
        # Its end is compared here, by the clock all of this room uses, so that an old token is told from a forged one.
        options: Any = {"require": _CLAIMS, "verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(token, self._access_key, algorithms=["HS256"], audience=_AUDIENCE, options=options)
            ends = datetime.fromtimestamp(claims["exp"], UTC)
            return Access(UUID(claims["sub"]), UUID(claims["sid"]), ends <= now)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
            return None

    def refresh(self, session_id: UUID, generation: int) -> tuple[str, bytes]:
        """A refresh token of this generation, and the digest to store in its place."""
        body = session_id.bytes + generation.to_bytes(_GENERATION, "big") + os.urandom(_NONCE)
        raw = body + self._sealed(body)
        return _LEAD + base64.urlsafe_b64encode(raw).decode().rstrip("="), hashlib.sha256(raw).digest()

    def read_refresh(self, token: str) -> Refresh | None:
        """What the token says; None for one that was never ours."""
        try:
            text = token.removeprefix(_LEAD) if token.startswith(_LEAD) and token.isascii() else "-"
            raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        body, seal = raw[:-_SEAL], raw[-_SEAL:]
        if len(body) != _ID + _GENERATION + _NONCE or not hmac.compare_digest(seal, self._sealed(body)):
            return None
        generation = int.from_bytes(body[_ID : _ID + _GENERATION], "big")
        return Refresh(UUID(bytes=body[:_ID]), generation, hashlib.sha256(raw).digest())

    def _sealed(self, body: bytes) -> bytes:
        return hmac.digest(self._refresh_key, body, hashlib.sha256)

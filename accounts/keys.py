"""Farebox keys: how one looks, how it is checked, what is kept of it. Pure but for the randomness of ``mint``.

``sk-fb-<prefix>-<secret><checksum>``: the prefix (60 bits, base32) finds the row, the secret (256 bits, base62) proves,
and the checksum (CRC-32, base62) lets a mistyped or foreign key be refused before anybody asks the database. Only the
prefix and HMAC-SHA-256(pepper, secret) are stored: a stolen database gives no keys, and cannot even be searched without
the pepper.
"""

from __future__ import annotations

import hmac
import secrets
import string
import zlib
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from policies.key_limits import UNLIMITED, KeyLimits

_LEAD = "sk-fb-"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX_CHARS = 12
_SECRET_BYTES = 32
_SECRET_CHARS = 43  # 62**43 is the first power above 2**256
_CHECKSUM_CHARS = 6
_LENGTH = len(_LEAD) + _PREFIX_CHARS + 1 + _SECRET_CHARS + _CHECKSUM_CHARS

INFERENCE = "inference"
"""The scope of a key that may call models."""
ACCOUNT = "account"
"""The scope of a key that may read its own account."""
FORWARD_USERS = "forward_users"
"""The scope of a key that speaks for users it names in headers."""
CHARGES = "charges"
"""The scope of a key that may report work done elsewhere, to be charged."""
IMPERSONATION = "impersonation"
"""The scope of a short-lived key by which an admin acts as its user."""

SCOPES = (INFERENCE, ACCOUNT, FORWARD_USERS, CHARGES, IMPERSONATION)
_USUAL = (INFERENCE, ACCOUNT)
_ACTING = frozenset((FORWARD_USERS, IMPERSONATION))


class Presented(NamedTuple):
    """A key as somebody presents it: well formed, not yet proven."""

    prefix: str
    secret: bytes


class Minted(NamedTuple):
    """A new key. ``full`` is shown once and never kept."""

    full: str
    prefix: str
    secret: bytes


class Key(msgspec.Struct, frozen=True):
    """What is kept of a key. Without ``user_id`` it belongs to a service that forwards the users of ``realm``, or
    reports their charges."""

    id: UUID
    prefix: str
    digest: bytes
    user_id: UUID | None = None
    name: str = ""
    scopes: tuple[str, ...] = ()
    realm: str = ""
    plain_headers: bool = False
    """The service may name its user in unsigned headers."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    created_at: datetime | None = None
    limits: KeyLimits = UNLIMITED
    acted_by: str = ""
    """The admin who acts as the user by this key."""
    rotated_from: UUID | None = None
    """The first key of the line this one continues."""

    @property
    def forwards_users(self) -> bool:
        return FORWARD_USERS in self.scopes

    @property
    def counted_as(self) -> UUID:
        """Whose windows and budget this key counts in: a line of rotated keys has one of each."""
        return self.rotated_from or self.id

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """The key's scopes with what they imply: who was given none, or acts for users, calls models and reads the
        account."""
        if self.scopes and _ACTING.isdisjoint(self.scopes):
            return self.scopes
        return tuple(dict.fromkeys((*self.scopes, *_USUAL)))


def mint() -> Minted:
    """A new random key."""
    prefix = "".join(secrets.choice(_BASE32) for _ in range(_PREFIX_CHARS))
    secret = secrets.token_bytes(_SECRET_BYTES)
    body = f"{_LEAD}{prefix}-{_base62(int.from_bytes(secret, 'big'), _SECRET_CHARS)}"
    return Minted(body + _checksum(body), prefix, secret)


def parse(text: str) -> Presented | None:
    """The parts of a well-formed key; None for anything else, without a look at any database."""
    if len(text) != _LENGTH or not text.startswith(_LEAD) or not text.isascii():
        return None
    body, checksum = text[:-_CHECKSUM_CHARS], text[-_CHECKSUM_CHARS:]
    prefix, _, digits = body.removeprefix(_LEAD).partition("-")
    if checksum != _checksum(body) or len(digits) != _SECRET_CHARS:
        return None
    number = _number(digits)
    return None if number is None else Presented(prefix, number.to_bytes(_SECRET_BYTES, "big"))


def looks_like_key(text: str) -> bool:
    """Whether this is meant as a Farebox key, well formed or not."""
    return text.startswith(_LEAD)


def digest_of(pepper: bytes, secret: bytes) -> bytes:
    """What is stored in place of the secret."""
    return hmac.digest(pepper, secret, "sha256")


def proves(pepper: bytes, secret: bytes, digest: bytes | None) -> bool:
    """Whether this secret is behind the stored digest; takes the same time where there is no digest at all."""
    return hmac.compare_digest(digest_of(pepper, secret), digest or bytes(32)) and digest is not None


def fingerprint(pepper: bytes) -> bytes:
    """By which two replicas notice that they were given different peppers; says nothing about the pepper itself."""
    return hmac.digest(pepper, b"farebox pepper fingerprint", "sha256")


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits))


def _number(digits: str) -> int | None:
    """The number of up to 256 bits these base62 digits spell."""
    number = 0
    for digit in digits:
        value = _BASE62.find(digit)
        if value < 0:
            return None
        number = number * 62 + value
    return number if number.bit_length() <= _SECRET_BYTES * 8 else None

"""Links by which people come from a sentence to their own account page.

A link holds a token: whose page it opens, until when, and a proof. It is no key: nothing but the account page reads
it, and that page only shows. It is short, because it stands in a sentence, and short-lived, because sentences are
passed on.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import NamedTuple
from uuid import UUID

_PURPOSE = b"farebox account page 1"
_PROOF_BYTES = 16
_SECONDS_BYTES = 5
_TOKEN_CHARS = 4 * -(-(16 + _SECONDS_BYTES + _PROOF_BYTES) // 3)
# What a reader may take along who copies an address out of a sentence that runs from right to left.
_MARKS = "\u2066\u2067\u2068\u2069\u200e\u200f"


class Opened(NamedTuple):
    """Whose page a token opens, and until when (unix seconds)."""

    user_id: UUID
    until: int


class Links:
    """Makes links and reads them. ``pepper`` is the secret of the house; what signs a link is derived from it for this
    purpose alone. ``public_url`` is where people reach the gateway, ``lasts_s`` how long a link does."""

    def __init__(self, pepper: bytes, public_url: str, lasts_s: int) -> None:
        self._key = hmac.digest(pepper, _PURPOSE, "sha256")
        self._public_url = public_url.rstrip("/")
        self.lasts_s = lasts_s

    @property
    def pricing(self) -> str:
        """The price list."""
        return f"{self._public_url}/pricing"

    def personal(self, url: str, user_id: UUID) -> str:
        """The address for this person: where it is a page of ours, the account page with a fresh token; an address of
        somebody else's stays as it is, and learns nothing."""
        return self.account(user_id) if url.rstrip("/") in (self.pricing, f"{self._public_url}/account") else url

    def account(self, user_id: UUID) -> str:
        """The person's account page, with a fresh token."""
        return f"{self._public_url}/account?token={self.token(user_id)}"

    def token(self, user_id: UUID) -> str:
        """A token that begins now."""
        said = user_id.bytes + (int(time.time()) + self.lasts_s).to_bytes(_SECONDS_BYTES)
        return _encoded(said + self._proof(said))

    def read(self, token: str) -> Opened | None:
        """What a token opens; None for one that is wrong in whatever way, or over."""
        raw = _decoded(token.strip(_MARKS))
        if raw is None:
            return None
        said, proof = raw[:-_PROOF_BYTES], raw[-_PROOF_BYTES:]
        if not hmac.compare_digest(proof, self._proof(said)):
            return None
        opened = Opened(UUID(bytes=said[:16]), int.from_bytes(said[16:]))
        return opened if opened.until > time.time() else None

    def _proof(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, "sha256")[:_PROOF_BYTES]


def _decoded(token: str) -> bytes | None:
    padded = token + "=" * (-len(token) % 4)
    if len(padded) != _TOKEN_CHARS or not padded.isascii():
        return None
    try:
        raw = urlsafe_b64decode(padded)
    except (NotBase64, ValueError):
        return None
    # One token, one spelling: what decodes to the same bytes by other letters is not one of ours.
    return raw if len(raw) == 16 + _SECONDS_BYTES + _PROOF_BYTES and _encoded(raw) == token else None


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")

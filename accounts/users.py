"""A user's account, and what is seen of a user when a call names one. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec

Role = Literal["user", "vip", "admin"]
Status = Literal["active", "suspended", "deleted"]

LOCAL_REALM = "farebox"
"""The realm of accounts an operator makes by hand."""

TEXT_MAX = 320
"""Characters of an e-mail address or name that are kept (RFC 5321: 64 + 1 + 255)."""

SUBJECT_MAX = 255

_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class User(msgspec.Struct, frozen=True):
    """One account: known for ever by (realm, subject); all else may change.

    ``tier`` is its own one; which is in force, `standing.py` tells. A ``tier_pinned`` was set by an admin and comes
    before any group's.
    """

    id: UUID
    wallet_id: UUID
    realm: str
    subject: str
    email: str
    name: str
    role: str
    tier: str
    status: str
    language: str
    created_at: datetime | None = None
    tier_pinned: bool = False
    tier_since: datetime = _SINCE_EVER
    next_tier: str | None = None
    next_tier_at: datetime | None = None
    """From this instant on ``next_tier`` is the account's own tier, pinned."""
    sessions_from: datetime | None = None
    """Tokens issued before this instant are refused."""
    merged_into: UUID | None = None
    """The account that goes on for this one: the same person, known by another name."""
    groups: tuple[UUID, ...] = ()
    updated_at: datetime | None = None


class Sighting(msgspec.Struct, frozen=True):
    """A user as a token or a trusted header describes them. An empty e-mail or name means that nothing was said."""

    realm: str
    subject: str
    email: str = ""
    name: str = ""

    def differs_from(self, user: User) -> bool:
        """Whether the account should follow what was seen. It follows its own identity, not one merged into it."""
        if (self.realm, self.subject) != (user.realm, user.subject):
            return False
        return bool((self.email and self.email != user.email) or (self.name and self.name != user.name))

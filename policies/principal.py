"""Who is calling, proven. A value only: how it was proven is the gateway's business, what it may do the tier's."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    """One caller, as every rule and the ledger see them.

    An account is known by (realm, subject), never by its e-mail, which people change. The last three fields are labels
    taken from a forwarding caller's headers: they are written beside a charge and never grant anything.
    """

    user_id: UUID
    wallet_id: UUID
    realm: str
    subject: str
    email: str
    name: str
    role: str
    """user, vip or admin."""
    tier: str
    status: str
    """active, suspended or deleted."""
    language: str
    key_id: UUID | None = None
    """The Farebox key the call came with; None behind a token of an issuer."""
    key_name: str = ""
    forwarded: bool = False
    """The call came through a key that speaks for its users."""
    chat_id: str = ""
    message_id: str = ""
    task: str = ""

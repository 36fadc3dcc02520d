"""Who is calling, proven. A value only: how it was proven is the gateway's business, what it may do the tier's."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from uuid import UUID

from msgspec import Struct

from policies.group import Group
from policies.key_limits import KeyLimits


class Principal(Struct, frozen=True, dict=True):
    """One caller, as every rule and the ledger see them.

    An account is known by (realm, subject), never by its e-mail, which people change. ``chat_id``, ``message_id`` and
    ``task`` are labels taken from a forwarding caller's headers: they are written beside a charge and never grant
    anything.
    """

    user_id: UUID
    wallet_id: UUID
    """What the call spends from: the user's own wallet, or the one a group shares."""
    realm: str
    subject: str
    email: str
    name: str
    role: str
    """user, vip or admin."""
    tier: str
    """The name of the tier in force for this call."""
    status: str
    """active, suspended or deleted."""
    language: str
    key_id: UUID | None = None
    """The Farebox key the call came with; None behind a token of an issuer."""
    forwarded: bool = False
    """The call came through a key that speaks for its users."""
    chat_id: str = ""
    message_id: str = ""
    task: str = ""
    since: datetime | None = None
    """Since when the tier is in force, for allowances by anniversary."""
    group: Group | None = None
    limits: KeyLimits | None = None
    """What the key allows by itself, beside the tier."""
    acted_by: str = ""
    """The admin behind a key that acts as its user."""
    scopes: tuple[str, ...] = ()

    @cached_property
    def user_text(self) -> str:
        """The user's id as counters are named by it: written once, however often the caller calls."""
        return str(self.user_id)

    @cached_property
    def wallet_text(self) -> str:
        return str(self.wallet_id)

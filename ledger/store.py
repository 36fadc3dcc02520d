"""What the rest of the house may ask of the bank, and the values it answers with. Pure.

The one implementation is ``store_sql.PostgresBank``: money exists in Postgres only, also in tests and in the demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from ledger.hold import CallFacts, Settlement
from ledger.period import Plan
from ledger.usage import Usage
from ledger.wallet import GrantKind


class BankUnavailable(Exception):
    """The bank cannot answer now (away, too slow, read-only, no connection free). Nobody knows whether what was asked
    is done, so every request to the bank may be repeated without harm."""


class BankBusy(BankUnavailable):
    """Somebody else keeps a row locked for too long. What was asked is certainly not done."""


class HoldStatus(StrEnum):
    """How the bank answered a request for a hold."""

    OK = "ok"
    POOR = "poor"
    SUSPENDED = "suspended"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    DUPLICATE = "duplicate"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class HoldAsk:
    """Set ``wanted`` aside for a call; less will do, but not less than ``minimum``. Nano-USD."""

    request_id: UUID
    wallet_id: UUID
    wanted: int
    minimum: int
    price_version: int
    factor_ppm: int
    facts: CallFacts
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class HoldReply:
    """``amount`` was set aside; ``available`` is what the wallet has free beside it (or, refused, at all). Nano-USD.

    ``BUSY``: somebody else has the wallet locked just now; nothing was done, ask again in a moment (``Teller`` does).
    """

    status: HoldStatus
    amount: int
    available: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life of one call: what it has used (nano-USD, with the usage that explains it), and the whole amount
    its hold should have (``target``; 0: as it is). ``price_version`` names the price that explains the amount, when it
    is not the one the hold was opened with (0: it is)."""

    request_id: UUID
    wallet_id: UUID
    checkpoint: int
    usage: Usage
    target: int = 0
    price_version: int = 0


@dataclass(frozen=True, slots=True)
class BeatReply:
    """``alive`` is False when the hold is no longer this process's to spend; then the call must end. Nano-USD.

    ``busy``: the sign of life is recorded, the extension was not decided; ask again in a moment (``Teller`` does).
    """

    alive: bool
    amount: int
    available: int
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Unposted:
    """The settlements one ``close`` left: of an ``unknown`` hold, never to be posted; ``busy``, to be handed in
    again."""

    unknown: tuple[Settlement, ...] = ()
    busy: tuple[Settlement, ...] = ()


@dataclass(frozen=True, slots=True)
class Balance:
    """What a wallet holds: nano-USD in all, set aside, and by kind of money; when the running plan period ends."""

    spendable: int
    held: int
    by_kind: dict[str, int]
    period_ends_at: datetime | None = None
    plan_amount: int = 0

    @property
    def available(self) -> int:
        return self.spendable - self.held


class Bank(Protocol):
    """Every method raises BankUnavailable when the bank cannot answer."""

    async def open_holds(self, asks: Sequence[HoldAsk]) -> list[HoldReply]:
        """One reply for each ask, in order; each ask stands alone. What a wallet is due is booked first."""

    async def beat(self, beats: Sequence[Beat]) -> list[BeatReply]:
        """Record checkpoints, extend holds; one reply for each beat, in order. An extension may be granted in part."""

    async def close(self, events: Sequence[Settlement]) -> Unposted:
        """Post settlements in one transaction, but those whose wallet somebody else has locked; repeating changes
        nothing. A void of an unknown hold is done with: there is nothing to give back."""

    async def credit(
        self,
        wallet_id: UUID,
        amount: int,
        kind: GrantKind,
        *,
        source: str,
        funding: str,
        expires_at: datetime | None = None,
    ) -> bool:
        """A new grant, once for each ``source`` of the wallet: False if it was there already."""

    async def balance(self, wallet_id: UUID, plan: Plan | None) -> Balance:
        """What the wallet holds now, after booking what is due."""

    async def reap(self) -> int:
        """Charge the last checkpoint of holds whose process fell silent; how many were found."""

    async def release(self) -> int:
        """Free what quarantined holds still lock past their horizon; how many were found."""

    async def sign_in(self) -> int:
        """Say that this replica lives; how many replicas do."""

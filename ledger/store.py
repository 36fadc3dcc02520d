"""What the rest of the house may ask of the bank, and the values it answers with. Pure.

The one implementation is ``store_sql.PostgresBank``: money exists in Postgres only, also in tests and in the demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from msgspec import Struct

from ledger.hold import CallFacts, Settlement
from ledger.period import Plan
from ledger.price import Price
from ledger.usage import Usage
from ledger.wallet import GrantKind


class BankUnavailable(Exception):
    """The bank cannot answer now (away, too slow, read-only, no connection free). Nobody knows whether what was asked
    is done, so every request to the bank may be repeated without harm."""


class BankBusy(BankUnavailable):
    """Somebody else keeps a row locked for too long. What was asked is certainly not done."""


class NotEnough(Exception):
    """More was asked of a wallet than it has free; ``available`` is what it has."""

    def __init__(self, available: int) -> None:
        super().__init__(f"only {available} is available")
        self.available = available


class MonthClosed(Exception):
    """The month is sealed, or its rows are not here any more; the message says which."""


class RefundTooLarge(Exception):
    """More was to be given back than the call was charged and not yet refunded; ``left`` is what still can be."""

    def __init__(self, left: int) -> None:
        super().__init__(f"only {left} is left to refund")
        self.left = left


class CallRunning(Exception):
    """The call's last word is not said yet: its hold is open or in quarantine."""


class WalletBusy(Exception):
    """A wallet is to be emptied that still holds money for calls under way."""


class HoldStatus(StrEnum):
    """How the bank answered a request for a hold. POOR: the wallet cannot pay it; CAPPED: a budget does not allow
    it."""

    OK = "ok"
    POOR = "poor"
    CAPPED = "capped"
    SUSPENDED = "suspended"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    DUPLICATE = "duplicate"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class BudgetAsk:
    """The budget's row for the running period (``budget.period``), and how much may be spent in it. Nano-USD."""

    id: UUID
    limit: int


class HoldAsk(Struct, frozen=True):
    """Set ``wanted`` aside for a call; less will do, but not less than ``minimum``. Units of the wallet's currency
    (nano-USD, or tokens, where ``budgets`` mean nothing). ``budgets``: the call is counted in all of them, and none
    is passed."""

    request_id: UUID
    wallet_id: UUID
    wanted: int
    minimum: int
    price_version: int
    factor_ppm: int
    facts: CallFacts
    plan: Plan | None = None
    budgets: tuple[BudgetAsk, ...] = ()


class HoldReply(Struct, frozen=True):
    """``amount`` was set aside; ``available`` is what the wallet has free beside it (or, refused, at all). Nano-USD.

    ``headroom``: how much the hold could still grow, which is ``available``, or less where a budget allows less.
    ``CAPPED``: ``budget`` names the budget that refused, ``available`` is what is left in it. ``BUSY``: somebody else
    has the wallet or a budget locked just now; nothing was done, ask again in a moment (``Teller`` does).
    """

    status: HoldStatus
    amount: int
    available: int
    budget: UUID | None = None
    headroom: int = 0


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
    ``budget``: names the budget that kept the hold from growing as far as was asked; ``available`` is what is left in
    it.
    """

    alive: bool
    amount: int
    available: int
    busy: bool = False
    budget: UUID | None = None


@dataclass(frozen=True, slots=True)
class Unposted:
    """The settlements one ``close`` left: of an ``unknown`` hold, never to be posted; ``busy``, to be handed in
    again."""

    unknown: tuple[Settlement, ...] = ()
    busy: tuple[Settlement, ...] = ()


@dataclass(frozen=True, slots=True)
class Balance:
    """What a wallet holds: nano-USD in all, set aside, and by kind of money; when the running plan period ends. Only an
    ``active`` one may be spent from."""

    spendable: int
    held: int
    by_kind: dict[str, int]
    period_ends_at: datetime | None = None
    plan_amount: int = 0
    state: str = "active"

    @property
    def available(self) -> int:
        return self.spendable - self.held


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What the charges of a budget's calls come to, and what its running calls have set aside. Nano-USD."""

    spent: int = 0
    held: int = 0


CreditKind = Literal["payment", "grant", "adjustment", "refund", "deduct"]


@dataclass(frozen=True, slots=True)
class CreditOrder:
    """Money given or taken by a person, once for each ``source`` of the wallet. ``amount`` > 0; an adjustment may be
    below zero, which takes, as a ``deduct`` does. ``expires_at``: of money given. Nano-USD, or tokens in a token
    wallet (which takes no payment)."""

    wallet_id: UUID
    kind: CreditKind
    amount: int
    reason: str
    source: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CreditDone:
    """``created`` is False where the source was known: then id, entry and amount are those of the first time. The
    grant that was made has the same id. The amount is below zero where money was taken."""

    id: UUID
    entry_id: UUID
    amount: int
    created: bool
    spendable: int
    held: int


@dataclass(frozen=True, slots=True)
class RefundDone:
    """``amount`` was given back this time (``created``) or the first time its source was named; of the call,
    ``refunded_in_all``."""

    id: UUID
    request_id: UUID
    amount: int
    refunded_in_all: int
    created: bool


@dataclass(frozen=True, slots=True)
class OutsideOrder:
    """Work done elsewhere, charged once for each ``ref``: by ``price``, ``factor_ppm`` and ``variant``, or by
    ``amount``. ``at`` is when it was done. ``must_cover``: all or nothing; else what the wallet does not cover is
    overrun."""

    ref: str
    wallet_id: UUID
    facts: CallFacts
    usage: Usage
    price: Price | None
    factor_ppm: int
    variant: str
    amount: int | None
    at: datetime
    plan: Plan | None
    must_cover: bool


@dataclass(frozen=True, slots=True)
class OutsideDone:
    """The charge, made this time (``created``) or the first time its ref was named."""

    request_id: UUID
    amount: int
    overrun: int
    created: bool


@dataclass(frozen=True, slots=True)
class GrantState:
    """Money of one kind in a wallet: what it brought, what is left of it, from when to when it may be spent."""

    id: UUID
    kind: GrantKind
    amount: int
    remaining: int
    priority: int
    starts_at: datetime
    expires_at: datetime | None
    source: str
    funding: str


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

    async def open_wallet(self, wallet_id: UUID, currency: str) -> None:
        """An empty wallet of this currency, unless it is there already; due at once. Raises ValueError where it is
        there in another currency."""

    async def budget(self, budget_id: UUID) -> BudgetState:
        """What is spent and held of a budget in a period (``budget.period``); nothing where no call named it yet."""

    async def sign_in(self) -> int:
        """Say that this replica lives; how many replicas do."""

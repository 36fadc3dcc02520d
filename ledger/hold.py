"""A hold: money set aside for one call, and the ways it ends. Pure.

Two rules: what is not in the table is an error, and nothing is forwarded to a caller that its hold does not cover. A
hold is opened, moved only by beats (amount, checkpoint), and closed once. A hold whose process fell silent is
*quarantined*: what its last checkpoint says is charged, the remainder stays locked, because a paused process may wake
up and still spend it.

    open ──settle──> settled        open ──void──> voided
    open ──expire──> quarantine     quarantine ──settle──> settled      quarantine ──release──> settled
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from ledger.journal import (
    EXPENSE_BAD_DEBT,
    EXPENSE_GOODWILL,
    REVENUE_USAGE,
    Posting,
    transfer,
)
from ledger.usage import Usage, UsageSource
from ledger.wallet import Wallet


class State(StrEnum):
    OPEN = "open"
    QUARANTINE = "quarantine"
    SETTLED = "settled"
    VOIDED = "voided"


class Step(StrEnum):
    SETTLE = "settle"
    VOID = "void"
    EXPIRE = "expire"
    RELEASE = "release"


class Rev(StrEnum):
    """Which word on a call's charge: from the last checkpoint; the process's own; its own after the horizon."""

    PROVISIONAL = "provisional"
    FINAL = "final"
    LATE = "late"


class Outcome(StrEnum):
    """How a charged call ended."""

    COMPLETED = "completed"
    CALLER_LEFT = "caller_left"
    UPSTREAM_ERROR = "upstream_error"
    CUT_BY_BALANCE = "cut_by_balance"
    DRAINED = "drained"
    RECOVERED = "recovered"


_TABLE: dict[tuple[State, Step], State] = {
    (State.OPEN, Step.SETTLE): State.SETTLED,
    (State.OPEN, Step.VOID): State.VOIDED,
    (State.OPEN, Step.EXPIRE): State.QUARANTINE,
    (State.QUARANTINE, Step.SETTLE): State.SETTLED,
    (State.QUARANTINE, Step.RELEASE): State.SETTLED,
}


class IllegalStep(Exception):
    """A step the table does not have: a defect in the caller, never to be papered over."""


def next_state(state: State, step: Step) -> State:
    """The state after ``step``. Raises IllegalStep."""
    try:
        return _TABLE[state, step]
    except KeyError:
        raise IllegalStep(f"{step} of a hold that is {state}") from None


class CallFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the ledger keeps of a call beside its money: who, what, through which door. Labels, never amounts."""

    user_id: UUID
    tier: str
    model: str
    route: str
    upstream: str = ""
    key_id: UUID | None = None
    task: str = ""
    chat_id: str = ""
    message_id: str = ""
    streamed: bool = False
    house: bool = False  # the house pays: an unlimited tier, or a task by its rule; the call is still recorded


@dataclass(slots=True)
class Hold:
    """``amount`` is what was set aside, ``spent`` what charges have drawn; nano-units. ``checkpoint`` is what the call
    had used at its last beat, with the usage that explains it. ``budget_ids``: what it is counted in, beside its
    wallet."""

    id: UUID
    wallet_id: UUID
    amount: int
    spent: int
    state: State
    checkpoint: int
    usage: Usage
    price_version: int
    factor_ppm: int
    facts: CallFacts
    budget_ids: tuple[UUID, ...] = ()

    @property
    def locked(self) -> int:
        """What this hold still keeps from being spent elsewhere: in its budgets, and in its wallet where that pays."""
        if self.state is State.OPEN:
            return self.amount
        return self.amount - self.spent if self.state is State.QUARANTINE else 0

    @property
    def locked_in_wallet(self) -> int:
        """What of it the wallet locks: nothing where the house pays."""
        return 0 if self.facts.house else self.locked


class Settlement(msgspec.Struct, frozen=True):
    """The process's own word on how a call ended: what is posted, spooled, replayed. ``void``: nothing was consumed."""

    request_id: UUID
    wallet_id: UUID
    usage: Usage
    source: UsageSource
    amount: int
    price_version: int
    factor_ppm: int
    outcome: Outcome
    at: datetime
    facts: CallFacts
    void: bool = False
    ttft_ms: int | None = None
    duration_ms: int | None = None
    problems: tuple[str, ...] = ()
    variant: str = ""  # what set the price beside the kind; "": the base price


class PriorCharge(msgspec.Struct, frozen=True):
    """A charge already posted for the call, with the legs of its entry."""

    rev: Rev
    amount: int
    overrun: int
    postings: tuple[Posting, ...]


class PriorRefund(msgspec.Struct, frozen=True):
    """What was given back of the call's charge already, with the legs of its entry."""

    amount: int
    postings: tuple[Posting, ...]


class Closing(msgspec.Struct, frozen=True):
    """What one step writes: the charge's revision (None: no charge), its legs, and the part the wallet did not
    cover."""

    rev: Rev | None
    amount: int = 0
    overrun: int = 0
    postings: tuple[Posting, ...] = ()


def settle(
    wallet: Wallet,
    hold: Hold,
    prior: Sequence[PriorCharge],
    event: Settlement,
    refunds: Sequence[PriorRefund] = (),
) -> Closing | None:
    """Close the hold by the process's own word; None if it was already said (repeating changes nothing).

    The wallet pays what the hold has locked and, if the answer cost more, what is free beside it; the rest is overrun,
    booked to bad debt: a wallet never goes below zero. A final after a provisional posts the difference. A late word
    that comes to less than was refunded since is not heard: nobody gets back more than was charged.
    """
    if hold.state is State.VOIDED or any(charge.rev is not Rev.PROVISIONAL for charge in prior):
        return None
    if sum(refund.amount for refund in refunds) > event.amount:
        return None
    provisional = prior[0] if prior else None
    if event.void and provisional is None:
        return _void(wallet, hold)
    # A late word changes what was charged, no longer the hold: its remainder is free since the horizon passed.
    late = hold.state is State.SETTLED
    state = hold.state if late else next_state(hold.state, Step.SETTLE)
    rev = Rev.LATE if late else Rev.FINAL
    free = wallet.available + hold.locked_in_wallet
    _release(wallet, hold)
    hold.state = state
    legs, overrun = _difference(wallet, free, provisional, refunds, event)
    hold.spent += sum(leg.amount for leg in legs if leg.wallet_id)
    return Closing(rev, event.amount, overrun, transfer(legs, REVENUE_USAGE))


def expire(wallet: Wallet, hold: Hold) -> Closing:
    """The process fell silent: charge its last checkpoint, keep the remainder locked.

    A checkpoint beyond the hold draws no more than the hold: the rest is overrun, as in ``settle``.
    """
    hold.state = next_state(hold.state, Step.EXPIRE)
    if hold.facts.house:
        legs = [Posting(EXPENSE_GOODWILL, hold.checkpoint, currency=wallet.currency)]
        return Closing(Rev.PROVISIONAL, hold.checkpoint, 0, transfer(legs, REVENUE_USAGE))
    hold.spent = min(hold.checkpoint, hold.amount)
    overrun = hold.checkpoint - hold.spent
    legs = [*wallet.burn(hold.spent), Posting(EXPENSE_BAD_DEBT, overrun, currency=wallet.currency)]
    wallet.held -= hold.spent
    return Closing(Rev.PROVISIONAL, hold.checkpoint, overrun, transfer(legs, REVENUE_USAGE))


def release(wallet: Wallet, hold: Hold) -> None:
    """The horizon has passed: nobody can still spend the remainder, so it is free again."""
    _release(wallet, hold)
    hold.state = next_state(hold.state, Step.RELEASE)


def _void(wallet: Wallet, hold: Hold) -> Closing:
    state = next_state(hold.state, Step.VOID)
    _release(wallet, hold)
    hold.state = state
    return Closing(None)


def _release(wallet: Wallet, hold: Hold) -> None:
    wallet.held -= hold.locked_in_wallet


def give_back(wallet: Wallet, booked: Iterable[Posting], amount: int) -> tuple[list[Posting], int]:
    """Unwind so much of what a call's entries ``booked``, in their order: the legs (below zero), and how much of it is
    overrun, which is forgiven first. Raises ValueError beyond what was booked and not given back yet."""
    drawn = _outstanding(booked)
    forgiven = min(amount, _on(EXPENSE_BAD_DEBT, drawn))
    borne = min(amount - forgiven, _on(EXPENSE_GOODWILL, drawn))
    legs = [
        *wallet.unburn(drawn, amount - forgiven - borne),
        Posting(EXPENSE_GOODWILL, -borne, currency=wallet.currency),
        Posting(EXPENSE_BAD_DEBT, -forgiven, currency=wallet.currency),
    ]
    return legs, forgiven


def _outstanding(booked: Iterable[Posting]) -> list[Posting]:
    """What each account and grant still bears of a call, in the order in which they were first drawn on."""
    sums: dict[tuple[str, UUID | None], Posting] = {}
    for leg in booked:
        if leg.account != REVENUE_USAGE:
            before = sums.get((leg.account, leg.grant_id))
            sums[leg.account, leg.grant_id] = msgspec.structs.replace(
                leg, amount=leg.amount + (before.amount if before else 0)
            )
    return list(sums.values())


def _on(account: str, legs: Iterable[Posting]) -> int:
    return sum(leg.amount for leg in legs if leg.account == account)


def _difference(
    wallet: Wallet, free: int, provisional: PriorCharge | None, refunds: Sequence[PriorRefund], event: Settlement
) -> tuple[list[Posting], int]:
    """Debit legs (negative: given back) from what is already charged to ``event.amount``, and the overrun in all."""
    charged, overrun = (provisional.amount, provisional.overrun) if provisional else (0, 0)
    more = event.amount - charged
    if event.facts.house:
        return [Posting(EXPENSE_GOODWILL, more, currency=wallet.currency)], 0
    if more >= 0:
        drawn = min(more, free)
        over = more - drawn
        return [*wallet.burn(drawn), Posting(EXPENSE_BAD_DEBT, over, currency=wallet.currency)], overrun + over
    assert provisional is not None  # an amount is never negative, so less than charged means something was charged
    booked = [*provisional.postings, *(leg for refund in refunds for leg in refund.postings)]
    legs, forgiven = give_back(wallet, booked, -more)
    return legs, overrun - forgiven

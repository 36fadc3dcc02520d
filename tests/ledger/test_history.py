"""Whatever happens to wallets and calls, in whatever order, the pure rules keep the books."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.booking import Booking, BudgetMove
from ledger.hold import (
    Closing,
    Hold,
    Outcome,
    PriorCharge,
    PriorRefund,
    Rev,
    Settlement,
    State,
    expire,
    give_back,
    release,
    settle,
)
from ledger.ids import uuid7
from ledger.journal import CURRENCY, REVENUE_USAGE, TOKENS, Posting, transfer
from ledger.usage import Usage, UsageSource
from ledger.wallet import PRIORITY, Grant, GrantKind, Wallet
from tests.ledger.till import PPM, facts_of

_START = datetime(2026, 1, 1, tzinfo=UTC)
_AMOUNTS = st.integers(1, 120)
_PICK = st.integers(0, 10**6)
_KINDS: list[GrantKind] = ["plan", "promo", "paid"]


@dataclass
class Call:
    """A call as the machine remembers it: its hold, and all that was booked for it."""

    hold: Hold
    charges: list[PriorCharge] = field(default_factory=list)
    refunds: list[PriorRefund] = field(default_factory=list)

    @property
    def charged(self) -> int:
        return self.charges[-1].amount if self.charges else 0

    @property
    def refunded(self) -> int:
        return sum(refund.amount for refund in self.refunds)

    @property
    def booked(self) -> list[Posting]:
        charged = [leg for charge in self.charges for leg in charge.postings]
        return charged + [leg for refund in self.refunds for leg in refund.postings]


class Histories(RuleBasedStateMachine):
    """Two wallets of money and one of tokens; every step books through ``Booking``, which refuses what does not
    balance."""

    def __init__(self) -> None:
        super().__init__()
        self.wallets = [Wallet(uuid4(), 0, 0, currency) for currency in (CURRENCY, CURRENCY, TOKENS)]
        self.calls: list[Call] = []
        self.now = _START
        self.brought: dict[UUID, int] = {}
        self.posted: dict[UUID, int] = defaultdict(int)
        self.revenue = 0
        self.refunded = 0
        self.budgets: dict[UUID, BudgetMove] = defaultdict(BudgetMove)

    def _book(self, booking: Booking) -> None:
        assert all(row["currency"] == self._currency(row) for row in booking.postings if row["wallet_id"])
        self.brought |= {row["id"]: row["amount"] for row in booking.new_grants}
        for row in booking.postings:
            if row["grant_id"]:
                self.posted[row["grant_id"]] -= row["amount"]
            if row["account"] == REVENUE_USAGE:
                self.revenue -= row["amount"]
        for budget_id, move in booking.budgets.items():
            self.budgets[budget_id].spent += move.spent
            self.budgets[budget_id].held += move.held

    def _currency(self, row: dict[str, object]) -> str:
        return next(wallet.currency for wallet in self.wallets if wallet.id == row["wallet_id"])

    def _call(self, pick: int, *states: State) -> Call | None:
        calls = [call for call in self.calls if call.hold.state in states]
        return calls[pick % len(calls)] if calls else None

    def _wallet(self, call: Call) -> Wallet:
        return next(wallet for wallet in self.wallets if wallet.id == call.hold.wallet_id)

    def _closed(self, booking: Booking, call: Call, closing: Closing, locked: int, before: int) -> None:
        hold, event = call.hold, self._event(call, closing.amount)
        booking.charge(event, closing, self._wallet(call).currency)
        booking.close(hold, charged=closing.amount - before, freed=locked - hold.locked)
        if closing.rev is not None:
            call.charges.append(PriorCharge(closing.rev, closing.amount, closing.overrun, closing.postings))
        self._book(booking)

    def _event(self, call: Call, amount: int, *, void: bool = False) -> Settlement:
        hold = call.hold
        return Settlement(
            hold.id, hold.wallet_id, Usage(), UsageSource.COUNTED, amount, 1, PPM, Outcome.COMPLETED, self.now,
            hold.facts, void,
        )  # fmt: skip

    @rule(w=st.integers(0, 2), kind=st.sampled_from(_KINDS), amount=_AMOUNTS, days=st.none() | st.integers(0, 9))
    def grant(self, w: int, kind: GrantKind, amount: int, days: int | None) -> None:
        ends = None if days is None else self.now + timedelta(days=days)
        booking, wallet = Booking(), self.wallets[w]
        funding = "cash:test" if kind == "paid" else "exp:promo"
        booking.fill(wallet, Grant(uuid7(), kind, amount, PRIORITY[kind], ends, self.now, funding, "s"), self.now)
        self._book(booking)

    @rule(w=st.integers(0, 2), amount=_AMOUNTS)
    def deduct(self, w: int, amount: int) -> None:
        booking, wallet = Booking(), self.wallets[w]
        if amount <= wallet.available:
            legs = [*wallet.burn(amount), Posting("exp:goodwill", -amount, currency=wallet.currency)]
            booking.enter("deduct", "d", self.now, legs)
            self._book(booking)

    @rule(w=st.integers(0, 2), wanted=_AMOUNTS, house=st.booleans(), budgets=st.integers(0, 2))
    def hold(self, w: int, wanted: int, house: bool, budgets: int) -> None:
        wallet = self.wallets[w]
        amount = 0 if house else min(wanted, wallet.available)
        wallet.held += amount
        named = tuple(UUID(int=n) for n in range(budgets))
        facts = facts_of(house=house)
        hold = Hold(uuid7(), wallet.id, amount, 0, State.OPEN, 0, Usage(), 1, PPM, facts, named)
        for budget_id in named:
            self.budgets[budget_id].held += amount
        self.calls.append(Call(hold))

    @rule(pick=_PICK, more=st.integers(0, 50), used=_AMOUNTS)
    def beat(self, pick: int, more: int, used: int) -> None:
        if call := self._call(pick, State.OPEN):
            wallet = self._wallet(call)
            grown = 0 if call.hold.facts.house else min(more, wallet.available)
            wallet.held += grown
            call.hold.amount += grown
            call.hold.checkpoint = max(call.hold.checkpoint, used)
            for budget_id in call.hold.budget_ids:
                self.budgets[budget_id].held += grown

    @rule(pick=_PICK, amount=st.integers(0, 300), void=st.booleans())
    def settle(self, pick: int, amount: int, void: bool) -> None:
        if call := self._call(pick, *State):
            hold, locked, before = call.hold, call.hold.locked, call.charged
            event = self._event(call, 0 if void else amount, void=void)
            closing = settle(self._wallet(call), hold, call.charges, event, call.refunds)
            if closing is not None:
                self._closed(Booking(), call, closing, locked, before)

    @rule(pick=_PICK)
    def expire_hold(self, pick: int) -> None:
        if call := self._call(pick, State.OPEN):
            locked = call.hold.locked
            self._closed(Booking(), call, expire(self._wallet(call), call.hold), locked, 0)

    @rule(pick=_PICK)
    def release_hold(self, pick: int) -> None:
        if call := self._call(pick, State.QUARANTINE):
            locked = call.hold.locked
            release(self._wallet(call), call.hold)
            booking = Booking()
            booking.close(call.hold, charged=0, freed=locked)
            self._book(booking)

    @rule(pick=_PICK, amount=_AMOUNTS)
    def refund(self, pick: int, amount: int) -> None:
        call = self._call(pick, State.SETTLED)
        if call is not None and (left := call.charged - call.refunded) > 0:
            amount = min(amount, left)
            legs, forgiven = give_back(self._wallet(call), call.booked, amount)
            assert 0 <= forgiven <= amount
            booking, postings = Booking(), transfer(legs, REVENUE_USAGE)
            booking.enter("refund", "r", self.now, postings)
            call.refunds.append(PriorRefund(amount, postings))
            self.refunded += amount
            self._book(booking)

    @rule(days=st.integers(0, 4), w=st.integers(0, 2), replaced=st.booleans())
    def time_passes(self, days: int, w: int, replaced: bool) -> None:
        self.now += timedelta(days=days)
        booking, wallet = Booking(), self.wallets[w]
        booking.take_back("expiry", wallet.expire(self.now), self.now)
        if replaced:
            booking.take_back("replaced", wallet.replace_plan("another"), self.now)
        self._book(booking)

    @precondition(lambda self: self.wallets[0].held == 0)
    @rule()
    def merge(self) -> None:
        source, target = self.wallets[0], self.wallets[1]
        before = source.spendable + target.spendable
        legs, made = source.pour(target, uuid7, "merge:1")
        booking = Booking()
        booking.enter("merge", "m", self.now, legs)
        for grant in made:
            booking.make(target, grant, self.now)
        self._book(booking)
        assert source.spendable == 0 and target.spendable == before

    @invariant()
    def wallets_are_their_grants_and_their_postings(self) -> None:
        for wallet in self.wallets:
            assert wallet.spendable == sum(grant.remaining for grant in wallet.grants)
            for grant in wallet.grants:
                assert 0 <= grant.remaining == self.posted[grant.id] <= self.brought[grant.id]
            locked = sum(call.hold.locked for call in self.calls if call.hold.wallet_id == wallet.id)
            assert wallet.held == locked >= 0 and wallet.available >= 0

    @invariant()
    def calls_are_charged_once_and_refunded_no_more(self) -> None:
        for call in self.calls:
            assert [charge.rev for charge in call.charges] in ([], [Rev.FINAL], [Rev.PROVISIONAL],
                [Rev.PROVISIONAL, Rev.FINAL], [Rev.PROVISIONAL, Rev.LATE])  # fmt: skip
            assert call.refunded <= call.charged
            drawn = sum(leg.amount for charge in call.charges for leg in charge.postings if leg.wallet_id)
            assert call.hold.spent == drawn
        assert self.revenue == sum(call.charged for call in self.calls) - self.refunded

    @invariant()
    def budgets_are_their_calls(self) -> None:
        for budget_id, move in self.budgets.items():
            calls = [call for call in self.calls if budget_id in call.hold.budget_ids]
            assert move.spent == sum(call.charged for call in calls)
            assert move.held == sum(call.hold.locked for call in calls)


Histories.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestHistories = Histories.TestCase

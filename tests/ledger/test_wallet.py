"""A wallet is the sum of its grants, through every sequence of grants, charges, refunds and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.ids import uuid7
from ledger.journal import REVENUE_BREAKAGE, TOKENS, Posting
from ledger.wallet import PRIORITY, Grant, GrantKind, Wallet

_T0 = datetime(2026, 11, 1, tzinfo=UTC)


def _grant(kind: GrantKind, amount: int, ends: int | None = None, made: int = 0) -> Grant:
    expires_at = None if ends is None else _T0 + timedelta(hours=ends)
    return Grant(uuid7(), kind, amount, PRIORITY[kind], expires_at, _T0 + timedelta(seconds=made), "exp:promo")


def _wallet(*grants: Grant, held: int = 0) -> Wallet:
    wallet = Wallet(uuid7(), 0, 0)
    for grant in grants:
        wallet.add(grant)
    wallet.held = held
    return wallet


def _of(postings: list[Posting]) -> dict[UUID | None, int]:
    return {posting.grant_id: posting.amount for posting in postings}


class Life(RuleBasedStateMachine):
    """Whatever happens to a wallet, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.wallet = Wallet(uuid7(), 0, 0)
        self.now = _T0
        self.posted: list[Posting] = []
        self.charges: list[list[Posting]] = []

    @rule(kind=st.sampled_from(sorted(PRIORITY)), amount=st.integers(1, 1000), hours=st.none() | st.integers(-2, 100))
    def grant(self, kind: GrantKind, amount: int, hours: int | None) -> None:
        ends = None if hours is None else self.now + timedelta(hours=hours)
        grant = Grant(uuid7(), kind, amount, PRIORITY[kind], ends, self.now, "exp:promo")
        self.posted.append(self.wallet.add(grant))

    @rule(share=st.fractions(0, 1))
    def hold(self, share: float) -> None:
        self.wallet.held += int(self.wallet.available * share)

    @rule(share=st.fractions(0, 1))
    def let_go(self, share: float) -> None:
        self.wallet.held -= int(self.wallet.held * share)

    @rule(share=st.fractions(0, 1))
    def charge(self, share: float) -> None:
        burnt = self.wallet.burn(int(self.wallet.available * share))
        self.posted += burnt
        self.charges.append(burnt)

    @precondition(lambda self: self.charges)
    @rule(data=st.data(), share=st.fractions(0, 1))
    def refund(self, data: st.DataObject, share: float) -> None:
        burnt = self.charges.pop(data.draw(st.integers(0, len(self.charges) - 1)))
        self.posted += self.wallet.unburn(burnt, int(sum(leg.amount for leg in burnt) * share))

    @rule(hours=st.integers(0, 50))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        for legs in self.wallet.expire(self.now):
            assert sum(leg.amount for leg in legs) == 0
            self.posted += [leg for leg in legs if leg.wallet_id]

    @rule()
    def what_ended_leaves_but_for_what_backs_holds(self) -> None:
        self.time_passes(0)
        ended = sum(g.remaining for g in self.wallet.grants if g.expires_at and g.expires_at <= self.now)
        assert ended <= self.wallet.held

    @invariant()
    def spendable_is_the_sum_of_grants_and_of_postings(self) -> None:
        assert self.wallet.spendable == sum(grant.remaining for grant in self.wallet.grants)
        assert self.wallet.spendable == -sum(posting.amount for posting in self.posted)

    @invariant()
    def nothing_is_below_zero(self) -> None:
        assert self.wallet.available >= 0 and self.wallet.held >= 0
        assert all(grant.remaining >= 0 for grant in self.wallet.grants)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_money_burns_by_kind_then_by_end_then_by_age() -> None:
    order = [
        _grant("plan", 1, ends=5),
        _grant("plan", 1),
        _grant("promo", 1, ends=1),
        _grant("promo", 1, ends=2, made=0),
        _grant("promo", 1, ends=2, made=1),
        _grant("paid", 1),
    ]
    wallet = _wallet(*reversed(order))
    assert [posting.grant_id for posting in wallet.burn(6)] == [grant.id for grant in order]


def test_burning_takes_no_more_than_asked() -> None:
    plan, paid = _grant("plan", 10), _grant("paid", 100)
    wallet = _wallet(plan, paid)
    assert _of(wallet.burn(15)) == {plan.id: 10, paid.id: 5}
    assert (wallet.spendable, plan.remaining, paid.remaining) == (95, 0, 95)


def test_burning_more_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="11 asked of 10"):
        _wallet(_grant("paid", 10)).burn(11)


def test_a_refund_unwinds_what_was_burnt_last_first_whatever_todays_order() -> None:
    promo, paid = _grant("promo", 10), _grant("paid", 100)
    wallet = _wallet(promo, paid)
    burnt = wallet.burn(30)
    wallet.add(_grant("plan", 50))
    assert _of(wallet.unburn(burnt, 25)) == {paid.id: -20, promo.id: -5}


def test_giving_back_more_than_was_burnt_is_refused() -> None:
    wallet = _wallet(_grant("paid", 100))
    with pytest.raises(ValueError, match="1 more to give back"):
        wallet.unburn(wallet.burn(30), 31)


def test_what_expires_goes_back_where_it_came_from_and_paid_money_is_breakage() -> None:
    wallet = _wallet(_grant("promo", 10, ends=1), _grant("paid", 7, ends=1), _grant("paid", 5))
    entries = wallet.expire(_T0 + timedelta(hours=1))
    assert [(legs[1].account, legs[1].amount) for legs in entries] == [("exp:promo", -10), (REVENUE_BREAKAGE, -7)]
    assert wallet.spendable == 5


def test_money_ends_at_its_instant_and_not_before() -> None:
    wallet = _wallet(_grant("promo", 10, ends=1))
    assert wallet.expire(_T0 + timedelta(hours=1) - timedelta(microseconds=1)) == []


def test_money_that_backs_a_hold_stays_though_other_money_came_since() -> None:
    wallet = _wallet(_grant("plan", 100, ends=1), held=30)
    [[leg, _]] = wallet.expire(_T0 + timedelta(hours=2))
    assert leg.amount == 70
    wallet.add(_grant("plan", 100, ends=50))
    assert wallet.expire(_T0 + timedelta(hours=2)) == []
    wallet.held = 0
    assert [legs[0].amount for legs in wallet.expire(_T0 + timedelta(hours=2))] == [30]


def test_another_plan_takes_the_place_of_what_is_left_of_the_old_one() -> None:
    old, gift, paid = _grant("plan", 100, ends=9), _grant("promo", 5, ends=9), _grant("paid", 7)
    old.source = "plan:free:november"
    wallet = _wallet(old, gift, paid, held=30)
    assert wallet.replace_plan("plan:free:november") == []
    [[leg, back]] = wallet.replace_plan("plan:pro:november")
    assert (leg.grant_id, leg.amount, back.account, back.amount) == (old.id, 70, "exp:promo", -70)
    assert wallet.spendable == 42


def test_the_next_end_is_that_of_a_grant_which_still_holds_money() -> None:
    empty, soon, late = _grant("promo", 5, ends=1), _grant("paid", 5, ends=2), _grant("paid", 5, ends=3)
    wallet = _wallet(empty, soon, late)
    wallet.burn(5)
    assert wallet.next_end() == soon.expires_at
    assert _wallet(_grant("paid", 5)).next_end() is None


def test_what_changed_is_remembered_for_writing() -> None:
    plan, paid = _grant("plan", 10), _grant("paid", 10)
    wallet = _wallet(plan, paid)
    wallet.changed.clear()
    wallet.burn(3)
    assert list(wallet.changed) == [plan.id]


def test_everything_live_is_poured_into_another_wallet_as_it_is() -> None:
    plan, spent, paid = _grant("plan", 10, ends=5), _grant("promo", 3), _grant("paid", 20)
    wallet, other = _wallet(plan, spent, paid), _wallet(_grant("paid", 1))
    spent.priority = -1
    wallet.burn(7)
    legs, made = wallet.pour(other, uuid7, "merge:1")
    assert (wallet.spendable, other.spendable, sum(leg.amount for leg in legs)) == (0, 27, 0)
    kept = [(g.kind, g.remaining, g.priority, g.expires_at, g.funding) for g in made]
    assert kept == [("plan", 6, 0, plan.expires_at, "exp:promo"), ("paid", 20, 20, None, "exp:promo")]
    assert [grant.source for grant in made] == [f"merge:1:{plan.id}", f"merge:1:{paid.id}"]
    assert {grant.id for grant in made}.isdisjoint({plan.id, spent.id, paid.id})


def test_an_empty_wallet_pours_nothing() -> None:
    assert _wallet().pour(_wallet(), uuid7, "merge:1") == ([], [])


def test_a_wallet_of_tokens_moves_tokens() -> None:
    wallet = Wallet(uuid7(), 0, 0, TOKENS)
    legs = [wallet.add(_grant("plan", 10, ends=1)), *wallet.burn(4)]
    [ended] = wallet.expire(_T0 + timedelta(hours=2))
    assert {leg.currency for leg in (*legs, *ended)} == {TOKENS}

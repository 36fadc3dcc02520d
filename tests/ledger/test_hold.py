"""A hold ends once, by the table, and whatever the order of words the wallet pays exactly the last one."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.hold import (
    CallFacts,
    Closing,
    Hold,
    IllegalStep,
    Outcome,
    PriorCharge,
    PriorRefund,
    Rev,
    Settlement,
    State,
    Step,
    expire,
    give_back,
    next_state,
    release,
    settle,
)
from ledger.ids import uuid7
from ledger.journal import EXPENSE_BAD_DEBT, EXPENSE_GOODWILL, REVENUE_USAGE, transfer
from ledger.usage import Usage, UsageSource
from ledger.wallet import PRIORITY, Grant, GrantKind, Wallet

_LEGAL = {
    (State.OPEN, Step.SETTLE): State.SETTLED,
    (State.OPEN, Step.VOID): State.VOIDED,
    (State.OPEN, Step.EXPIRE): State.QUARANTINE,
    (State.QUARANTINE, Step.SETTLE): State.SETTLED,
    (State.QUARANTINE, Step.RELEASE): State.SETTLED,
}
_NOW = datetime(2026, 11, 21, tzinfo=UTC)


def _scene(money: int, amount: int, *, checkpoint: int = 0, house: bool = False) -> tuple[Wallet, Hold]:
    """A wallet with money, and one open hold on it."""
    wallet = Wallet(uuid7(), 0, 0)
    if money:
        wallet.add(Grant(uuid7(), "paid", money, PRIORITY["paid"], None, _NOW, "cash:test"))
    wallet.held = amount
    facts = CallFacts(uuid4(), "free", "m", "chat.completions", house=house)
    usage = Usage(output=checkpoint)
    return wallet, Hold(uuid7(), wallet.id, amount, 0, State.OPEN, checkpoint, usage, 1, 10**6, facts)


def _word(hold: Hold, amount: int, *, void: bool = False) -> Settlement:
    return Settlement(
        hold.id, hold.wallet_id, Usage(output=amount), UsageSource.REPORTED, amount, 1, 10**6,
        Outcome.COMPLETED, _NOW, hold.facts, void,
    )  # fmt: skip


def _prior(closing: Closing) -> list[PriorCharge]:
    assert closing.rev is not None
    return [PriorCharge(closing.rev, closing.amount, closing.overrun, closing.postings)]


def _booked(*closings: Closing | None) -> dict[str, int]:
    """What all these closings together book on the accounts that are no wallet's."""
    sums: dict[str, int] = {}
    for closing in closings:
        assert closing is not None
        assert sum(leg.amount for leg in closing.postings) == 0
        for leg in closing.postings:
            if leg.wallet_id is None:
                sums[leg.account] = sums.get(leg.account, 0) + leg.amount
    return {account: amount for account, amount in sums.items() if amount}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("step", Step)
def test_each_step_is_in_the_table_or_an_error(state: State, step: Step) -> None:
    if (state, step) in _LEGAL:
        assert next_state(state, step) is _LEGAL[state, step]
    else:
        with pytest.raises(IllegalStep, match=f"{step} of a hold that is {state}"):
            next_state(state, step)


def test_settling_draws_the_amount_and_gives_the_rest_back() -> None:
    wallet, hold = _scene(100, 40)
    closing = settle(wallet, hold, [], _word(hold, 25))
    assert _booked(closing) == {REVENUE_USAGE: -25}
    assert (wallet.spendable, wallet.held, hold.spent, hold.state) == (75, 0, 25, State.SETTLED)


def test_more_than_the_hold_draws_on_what_is_free_beside_it() -> None:
    wallet, hold = _scene(100, 40)
    closing = settle(wallet, hold, [], _word(hold, 90))
    assert closing is not None and closing.overrun == 0
    assert (wallet.spendable, hold.spent) == (10, 90)


def test_money_other_calls_hold_is_never_drawn_and_the_rest_is_bad_debt() -> None:
    wallet, hold = _scene(100, 40)
    wallet.held += 50
    closing = settle(wallet, hold, [], _word(hold, 90))
    assert closing is not None and (closing.amount, closing.overrun) == (90, 40)
    assert _booked(closing) == {REVENUE_USAGE: -90, EXPENSE_BAD_DEBT: 40}
    assert (wallet.spendable, wallet.held, wallet.available) == (50, 50, 0)


def test_a_void_gives_everything_back_and_charges_nothing() -> None:
    wallet, hold = _scene(100, 40)
    assert settle(wallet, hold, [], _word(hold, 0, void=True)) == Closing(None)
    assert (wallet.available, hold.state, hold.spent) == (100, State.VOIDED, 0)


def test_a_word_said_again_changes_nothing() -> None:
    wallet, hold = _scene(100, 40)
    closing = settle(wallet, hold, [], _word(hold, 25))
    assert closing is not None
    assert settle(wallet, hold, _prior(closing), _word(hold, 30)) is None
    assert wallet.spendable == 75


def test_after_a_void_nothing_more_is_said() -> None:
    wallet, hold = _scene(100, 40)
    settle(wallet, hold, [], _word(hold, 0, void=True))
    assert settle(wallet, hold, [], _word(hold, 30)) is None
    assert wallet.spendable == 100


def test_a_silent_call_is_charged_its_checkpoint_and_its_remainder_stays_locked() -> None:
    wallet, hold = _scene(100, 40, checkpoint=15)
    closing = expire(wallet, hold)
    assert (closing.rev, closing.amount) == (Rev.PROVISIONAL, 15)
    assert (wallet.spendable, wallet.held, hold.locked, hold.state) == (85, 25, 25, State.QUARANTINE)


def test_a_checkpoint_beyond_the_hold_draws_no_more_than_the_hold_and_still_explains_itself() -> None:
    wallet, hold = _scene(100, 40, checkpoint=45)
    closing = expire(wallet, hold)
    assert (closing.amount, closing.overrun, hold.spent) == (45, 5, 40)
    assert _booked(closing) == {REVENUE_USAGE: -45, EXPENSE_BAD_DEBT: 5}
    assert (wallet.spendable, wallet.held) == (60, 0)


def test_the_remainder_is_free_after_the_horizon() -> None:
    wallet, hold = _scene(100, 40, checkpoint=15)
    expire(wallet, hold)
    release(wallet, hold)
    assert (wallet.spendable, wallet.held, hold.state) == (85, 0, State.SETTLED)


@pytest.mark.parametrize("amount", [0, 10, 15, 25, 40, 70])
def test_a_final_after_a_provisional_posts_the_difference(amount: int) -> None:
    wallet, hold = _scene(100, 40, checkpoint=15)
    first = expire(wallet, hold)
    last = settle(wallet, hold, _prior(first), _word(hold, amount))
    assert last is not None and last.rev is Rev.FINAL
    assert _booked(first, last) == ({REVENUE_USAGE: -amount} if amount else {})
    assert (wallet.spendable, wallet.held, hold.spent) == (100 - amount, 0, amount)


def test_a_void_after_a_provisional_gives_the_provisional_back() -> None:
    wallet, hold = _scene(100, 40, checkpoint=15)
    first = expire(wallet, hold)
    last = settle(wallet, hold, _prior(first), _word(hold, 0, void=True))
    assert last is not None and (last.rev, last.amount) == (Rev.FINAL, 0)
    assert (wallet.spendable, hold.spent, hold.state) == (100, 0, State.SETTLED)


def test_a_late_final_finds_what_is_free_and_the_rest_is_bad_debt() -> None:
    wallet, hold = _scene(100, 40, checkpoint=15)
    first = expire(wallet, hold)
    release(wallet, hold)
    wallet.held = 80  # another call took what the horizon had freed
    late = settle(wallet, hold, _prior(first), _word(hold, 30))
    assert late is not None and (late.rev, late.overrun) == (Rev.LATE, 10)
    assert _booked(first, late) == {REVENUE_USAGE: -30, EXPENSE_BAD_DEBT: 10}
    assert (wallet.spendable, wallet.available, hold.state) == (80, 0, State.SETTLED)


def test_a_smaller_final_forgives_the_overrun_before_it_gives_money_back() -> None:
    wallet, hold = _scene(40, 40, checkpoint=50)
    first = expire(wallet, hold)
    last = settle(wallet, hold, _prior(first), _word(hold, 35))
    assert last is not None and last.overrun == 0
    assert _booked(first, last) == {REVENUE_USAGE: -35}
    assert wallet.spendable == 5


def test_a_late_word_gives_back_what_no_refund_gave_back_before() -> None:
    wallet, hold = _scene(30, 50, checkpoint=50)
    wallet.add(Grant(uuid7(), "promo", 20, PRIORITY["promo"], None, _NOW, "exp:promo"))
    first = expire(wallet, hold)
    release(wallet, hold)
    legs, forgiven = give_back(wallet, first.postings, 35)
    refund = PriorRefund(35, transfer(legs, REVENUE_USAGE))
    assert forgiven == 0 and [grant.remaining for grant in wallet.grants] == [30, 5]
    late = settle(wallet, hold, _prior(first), _word(hold, 40), [refund])
    assert late is not None and [grant.remaining for grant in wallet.grants] == [30, 15]


def test_a_late_word_of_less_than_was_refunded_is_not_heard() -> None:
    wallet, hold = _scene(50, 50, checkpoint=50)
    first = expire(wallet, hold)
    release(wallet, hold)
    legs, _ = give_back(wallet, first.postings, 35)
    refund = PriorRefund(35, transfer(legs, REVENUE_USAGE))
    assert settle(wallet, hold, _prior(first), _word(hold, 34), [refund]) is None
    assert (wallet.spendable, hold.state) == (35, State.SETTLED)


def test_more_than_was_booked_is_not_given_back() -> None:
    wallet, hold = _scene(50, 50, checkpoint=50)
    first = expire(wallet, hold)
    with pytest.raises(ValueError, match="more to give back"):
        give_back(wallet, first.postings, 51)


def test_on_the_house_the_call_is_recorded_and_the_wallet_untouched() -> None:
    wallet, hold = _scene(0, 0, house=True)
    closing = settle(wallet, hold, [], _word(hold, 90))
    assert _booked(closing) == {REVENUE_USAGE: -90, EXPENSE_GOODWILL: 90}
    assert (wallet.spendable, hold.spent) == (0, 0)


@pytest.mark.parametrize("amount", [20, 50, 90])
def test_on_the_house_a_final_corrects_a_provisional_too(amount: int) -> None:
    wallet, hold = _scene(0, 0, checkpoint=50, house=True)
    first = expire(wallet, hold)
    last = settle(wallet, hold, _prior(first), _word(hold, amount))
    assert _booked(first, last) == {REVENUE_USAGE: -amount, EXPENSE_GOODWILL: amount}
    assert (wallet.spendable, wallet.held, hold.spent) == (0, 0, 0)


@given(
    money=st.integers(0, 200),
    held=st.integers(0, 200),
    others=st.integers(0, 200),
    checkpoint=st.integers(0, 250),
    path=st.sampled_from(["settle", "expire settle", "expire release settle"]),
    amount=st.integers(0, 300),
)
def test_every_path_books_the_last_word_and_never_passes_zero(
    money: int, held: int, others: int, checkpoint: int, path: str, amount: int
) -> None:
    held, others = min(held, money), min(others, max(0, money - held))
    wallet, hold = _scene(money, held, checkpoint=checkpoint)
    wallet.held += others
    said: list[Closing] = []
    for step in path.split():
        if step == "release":
            release(wallet, hold)
        else:
            prior = [charge for closing in said for charge in _prior(closing)]
            closing = expire(wallet, hold) if step == "expire" else settle(wallet, hold, prior, _word(hold, amount))
            assert closing is not None
            said.append(closing)
    bad_debt = said[-1].overrun
    expected = {REVENUE_USAGE: -amount, EXPENSE_BAD_DEBT: bad_debt}
    assert _booked(*said) == {account: sum_ for account, sum_ in expected.items() if sum_}
    assert wallet.spendable == money - amount + bad_debt == money - hold.spent
    assert wallet.held == others and wallet.available >= 0
    # The wallet pays what it can: bad debt only where what others hold is all that is left, or a late word came.
    assert not bad_debt or wallet.available == 0 or checkpoint > held


@given(
    grants=st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["plan", "promo", "paid"])), min_size=1, max_size=4),
    checkpoint=st.integers(0, 150),
    amount=st.integers(0, 150),
    parts=st.lists(st.integers(1, 60), max_size=8),
)
def test_refunds_in_any_parts_unwind_a_call_to_where_it_began(
    grants: list[tuple[int, GrantKind]], checkpoint: int, amount: int, parts: list[int]
) -> None:
    wallet, hold = _scene(0, 0, checkpoint=checkpoint)
    for money, kind in grants:
        wallet.add(Grant(uuid7(), kind, money, PRIORITY[kind], None, _NOW, "cash:test"))
    wallet.held = hold.amount = wallet.spendable // 2
    before = {grant.id: grant.remaining for grant in wallet.grants}
    said = [expire(wallet, hold)]
    last = settle(wallet, hold, _prior(said[0]), _word(hold, amount))
    assert last is not None
    booked = [leg for closing in (*said, last) for leg in closing.postings]
    left = amount
    for part in (*parts, amount):
        if part := min(part, left):
            legs, forgiven = give_back(wallet, booked, part)
            assert -sum(leg.amount for leg in legs) == part >= forgiven
            booked += transfer(legs, REVENUE_USAGE)
            left -= part
    assert {grant.id: grant.remaining for grant in wallet.grants} == before
    assert sum(leg.amount for leg in booked if leg.account in (EXPENSE_BAD_DEBT, REVENUE_USAGE)) == 0

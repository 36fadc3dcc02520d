"""The arithmetic of a call's money: never too little held, never more promised than covered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bill import Bill
from ledger.price import Price, charge_amount
from ledger.usage import Usage

PPM = 1_000_000
CHEAP = Price(1, "m", {"input": 150_000, "output": 600_000})
amounts = st.integers(0, 10**15)
bills = st.builds(
    Bill,
    st.builds(
        Price,
        st.just(1),
        st.just("m"),
        st.fixed_dictionaries({"input": st.integers(0, 10**9), "output": st.integers(1, 10**9)}),
        st.integers(0, 10**9),
    ),
    st.integers(1, 10 * PPM),
    st.integers(0, 10**6).map(lambda tokens: Usage(input=tokens)),
)


def test_an_amount_is_the_ledgers_own() -> None:
    usage = Usage(input=11, cache_read=4, output=3)
    assert Bill(CHEAP, 2 * PPM, Usage(input=99)).amount(usage) == charge_amount(usage, CHEAP, 2 * PPM)


def test_expected_is_the_estimated_input_and_so_much_output() -> None:
    assert Bill(CHEAP, PPM, Usage(input=10)).expected(100) == 10 * 150 + 100 * 600
    assert Bill(CHEAP, 3 * PPM // 2, Usage(input=10)).expected(100) == (10 * 150 + 100 * 600) * 3 // 2


def test_reasoning_that_costs_more_than_text_is_expected() -> None:
    dear = Price(1, "m", {"output": 600_000, "reasoning": 900_000})
    assert Bill(dear, PPM, Usage(input=0)).expected(100) == 100 * 900
    assert Bill(dear, PPM, Usage(input=0)).covered(90_000) == 100


def test_a_price_by_the_request_is_expected_once_and_covers_any_answer() -> None:
    flat = Bill(Price(1, "m", {}, per_request=10_000_000), PPM, Usage(input=500))
    assert flat.expected(0) == flat.expected(10_000) == 10_000_000
    assert flat.covered(10_000_000) > 10**9


@pytest.mark.parametrize("amount", [0, 1, 1500, 2099])
def test_too_little_money_covers_no_output_and_never_less(amount: int) -> None:
    assert Bill(CHEAP, PPM, Usage(input=10)).covered(amount) == 0


@given(bills, st.integers(0, 10**7))
def test_what_is_held_for_an_answer_covers_that_answer(bill: Bill, output: int) -> None:
    assert bill.covered(bill.expected(output)) >= output


@given(bills, amounts)
def test_what_is_covered_costs_no_more_than_the_amount(bill: Bill, amount: int) -> None:
    covered = bill.covered(amount)
    if covered:
        assert bill.amount(Usage(input=bill.input_tokens, output=covered)) <= amount
        assert bill.expected(covered + 1) > amount or bill.expected(covered + 1) == bill.expected(covered)

"""A call before anything is counted: which models may answer, who grants them, and what it takes of each window."""

from __future__ import annotations

from config.catalog import Model
from gateway.bill import Bill
from gateway.order import Candidate, candidates_of, fits
from gateway.terms import terms_of
from ledger.usage import Usage
from policies.key_limits import KeyLimits
from policies.tier import Tier, Window
from tests.gateway.chain import CATALOG, ONE, PRICES, THREE, TIER, code_of, principal
from tests.gateway.parts import CHAT, URL, order_of


def test_candidates_are_the_models_of_the_terms_each_at_its_own_price() -> None:
    terms = terms_of(CATALOG, Tier("dear", markup_ppm=2_000_000), None, CHAT, ONE, URL)
    candidates = candidates_of(terms, Usage(input=10), 12)
    assert [(each.model.id, each.bill.price.version, each.estimated) for each in candidates] == [
        ("one", 1, 12),
        ("two", 2, 12),
    ]
    assert {each.bill.factor_ppm for each in candidates} == {2_000_000}


def test_a_model_without_a_price_is_refused() -> None:
    assert code_of(candidates_of, terms_of(CATALOG, TIER, None, CHAT, THREE, URL), Usage()) == "price_missing"


def test_a_call_counts_in_the_windows_of_its_tier_and_of_its_key() -> None:
    bill = Bill(PRICES["one"], 1_000_000, Usage(input=10))
    limits = KeyLimits(windows=(Window(5, "output_tokens", 60), Window(5, "input_tokens", 60, models=("two",))))
    for who, expected in (
        (principal(), [("requests/60", 1), ("cost/60", 77)]),
        (principal(limits=limits), [("requests/60", 1), ("cost/60", 77), ("output_tokens/60", 30)]),
    ):
        order = order_of(who, TIER, (Candidate(ONE, bill),), 30)
        assert [(window.name, cost) for window, cost in order.rules(77)] == expected
    assert (order.model, order.foreseen.input) == (ONE, 10)


def test_tokens_in_a_window_are_those_of_the_request_and_the_reserve() -> None:
    tier = Tier("t", windows=(Window(9, "tokens", 60), Window(9, "input_tokens", 60)))
    bill = Bill(PRICES["one"], 1_000_000, Usage(input=10, image_in=5))
    order = order_of(principal(), tier, (Candidate(ONE, bill),), 30)
    assert [cost for _, cost in order.rules(0)] == [45, 15]


def test_a_request_fits_where_nothing_says_otherwise() -> None:
    small = Model("small", "main", "small", context=100, max_output=20)
    assert fits(ONE, 10**6, 10**6) and fits(small, 80, 20) and fits(small, 100, None)
    assert not fits(small, 81, 20) and not fits(small, 1, 21)

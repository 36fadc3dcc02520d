"""A call before anything is counted: which models may answer, who grants them, and what it takes of each window."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from config.catalog import Catalog, Model
from gateway.bill import Bill
from gateway.errors import Refusal
from gateway.order import Candidate, Order, candidates_of, check_granted, known_model, no_model
from ledger.price import Price
from ledger.usage import Usage
from policies.key_limits import KeyLimits
from policies.principal import Principal
from policies.tier import Tier, Window
from tests.gateway.parts import CHAT, EMBEDDINGS, URL

ONE = Model("one", "main", "one", fallback="two")
TWO = Model("two", "main", "two", fallback="three")
THREE = Model("three", "main", "three")
OTHER_KIND = Model("other", "main", "other", kind="embedding")
PRICES = {name: Price(at, name, {"input": at * 1000, "output": at * 1000}) for at, name in enumerate(("one", "two"), 1)}
CATALOG = Catalog(models={each.id: each for each in (ONE, TWO, THREE, OTHER_KIND)}, prices=PRICES)
TIER = Tier("free", windows=(Window(9, "requests", 60), Window(9, "cost", 60), Window(9, "tokens", 60, "embeddings")))


def principal(**more: Any) -> Principal:
    return Principal(UUID(int=1), UUID(int=2), "r", "s", "", "Ada", "user", "free", "active", "en", **more)


def code_of(call: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(Refusal) as caught:
        call(*given, **more)
    return caught.value.code


def test_a_model_is_found_by_its_name_and_its_kind() -> None:
    assert known_model(CATALOG, CHAT, "one") is ONE
    assert code_of(known_model, CATALOG, CHAT, "nobody") == "model_not_found"
    assert code_of(known_model, CATALOG, CHAT, "other") == "invalid_request"
    assert known_model(CATALOG, EMBEDDINGS, "other") is OTHER_KIND
    assert len(no_model("x" * 5000).message) < 200


def test_both_the_tier_and_the_key_must_grant_a_model() -> None:
    check_granted(Tier("t", models=("o*",)), KeyLimits(models=("*e",)), ONE, URL)
    tier_only, key_only = Tier("t", models=("two",)), KeyLimits(models=("two",))
    assert code_of(check_granted, tier_only, None, ONE, URL) == "model_not_allowed"
    assert code_of(check_granted, Tier("t"), key_only, ONE, URL) == "model_not_allowed"
    assert code_of(check_granted, Tier("t", features=()), None, ONE, URL, ["tools"]) == "feature_not_allowed"
    assert code_of(check_granted, Tier("t", max_context=9), None, ONE, URL, tokens=10) == "request_too_large"
    assert code_of(check_granted, Tier("t", max_output=9), None, ONE, URL, asked_output=10) == "request_too_large"


def names(candidates: tuple[Candidate, ...]) -> list[str]:
    return [each.model.id for each in candidates]


def test_a_fallback_needs_a_price_and_the_grant_of_tier_and_key() -> None:
    usage = Usage(input=10)
    assert names(candidates_of(CATALOG, TIER, None, ONE, usage)) == ["one", "two"]
    assert names(candidates_of(CATALOG, Tier("t", models=("one",)), None, ONE, usage)) == ["one"]
    assert names(candidates_of(CATALOG, TIER, KeyLimits(models=("one",)), ONE, usage)) == ["one"]
    assert code_of(candidates_of, CATALOG, TIER, None, THREE, usage) == "price_missing"


def test_a_call_counts_in_the_windows_of_its_tier_and_of_its_key() -> None:
    bill = Bill(PRICES["one"], 1_000_000, Usage(input=10))
    limits = KeyLimits(windows=(Window(5, "output_tokens", 60), Window(5, "input_tokens", 60, models=("two",))))
    for who, expected in (
        (principal(), [("requests/60", 1), ("cost/60", 77)]),
        (principal(limits=limits), [("requests/60", 1), ("cost/60", 77), ("output_tokens/60", 30)]),
    ):
        order = Order(who, TIER, CHAT, (Candidate(ONE, bill),), 30, 16, URL)
        assert [(window.name, cost) for window, cost in order.rules(77)] == expected
    assert (order.model, order.foreseen.input) == (ONE, 10)


def test_tokens_in_a_window_are_those_of_the_request_and_the_reserve() -> None:
    tier = Tier("t", windows=(Window(9, "tokens", 60), Window(9, "input_tokens", 60)))
    bill = Bill(PRICES["one"], 1_000_000, Usage(input=10, image_in=5))
    order = Order(principal(), tier, CHAT, (Candidate(ONE, bill),), 30, 16, URL)
    assert [cost for _, cost in order.rules(0)] == [45, 15]

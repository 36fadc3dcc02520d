"""What is offered: listed models with their prices, tiers from the lowest to the highest, limits in words."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import msgspec
import pytest

from config.catalog import Kind
from gateway.language import language_of, shipped
from gateway.offer import (
    included_words,
    ladder,
    limit_words,
    listed_models,
    lowest,
    offer,
    price_words,
    prices_of,
    window_words,
)
from ledger.usage import KINDS
from policies.tier import Window
from tests.gateway.offers import CATALOG

ENGLISH = language_of("en")


def test_tiers_are_ordered_by_price_and_by_what_they_lead_to() -> None:
    assert [tier.name for tier in ladder(CATALOG)] == ["free", "bare", "yearly", "pro"]


def test_what_is_retired_unlisted_or_unpriced_is_not_offered() -> None:
    assert [model.id for model in listed_models(CATALOG)] == ["large", "paint", "small"]
    said = msgspec.json.encode(offer(CATALOG, ENGLISH))
    for hidden in (b"secret", b"unpriced", b"admin", b"gone", b"main"):
        assert hidden not in said


def test_a_chat_model_that_people_do_not_find_where_they_chat_is_not_offered() -> None:
    seen = replace(CATALOG, shown=frozenset({"small"}))
    assert [model.id for model in listed_models(seen)] == ["paint", "small"]


def test_the_lowest_tier_that_grants_a_model() -> None:
    tiers = ladder(CATALOG)
    assert [tier.name for name in ("small", "large") if (tier := lowest(tiers, name))] == ["free", "yearly"]
    assert lowest((), "small") is None


def test_a_model_is_offered_with_all_its_prices() -> None:
    models = {model["id"]: model for model in offer(CATALOG, ENGLISH)["models"]}
    small, large, paint = models["small"], models["large"], models["paint"]
    assert small["pricing"] == {"input": "0.15", "cache_read": "0.075", "output": "0.60"}
    assert (small["tier"], small["tiers"]) == ("free", ["free", "bare", "yearly", "pro"])
    assert (large["name"], large["context_window"], large["per_request"]) == ("Large & Co", 1000, "0.000001")
    assert large["long_context"] == {"above": 200, "pricing": {"input": "5.00"}}
    assert (paint["pricing"], paint["variants"]) == ({"images": "0.04"}, {"hd": {"images": "0.08"}})


def test_prices_are_said_in_words() -> None:
    large, paint = CATALOG.prices["large"], CATALOG.prices["paint"]
    assert price_words(large, ENGLISH) == [
        "input: 2.50 per 1M",
        "output: 10.00 per 1M",
        "0.000001 per request",
        "above 200 input tokens: input: 5.00 per 1M",
    ]
    assert price_words(paint, ENGLISH) == ["image: 0.04 each"]
    assert prices_of({"output": 600_000, "input": 150_000}) == {"input": "0.15", "output": "0.60"}


def test_what_is_included_is_said_in_words() -> None:
    free, bare = CATALOG.tiers["free"], CATALOG.tiers["bare"]
    assert included_words(free, ENGLISH) == "1000 tokens a day"
    assert included_words(bare, ENGLISH) == "pay as you go"
    assert included_words(msgspec.structs.replace(bare, unlimited=True), ENGLISH) == "everything included"


def test_limits_are_said_in_words() -> None:
    free, pro, bare = (CATALOG.tiers[name] for name in ("free", "pro", "bare"))
    assert limit_words(free, ENGLISH) == [
        "20 requests per minute",
        "1.0000 USD per day (chat.completions, gpt-*)",
        "answers up to 1024 tokens",
        "conversations up to 8192 tokens",
    ]
    assert limit_words(pro, ENGLISH) == ["4 answers at once", "1.2 × the prices below"]
    assert limit_words(bare, ENGLISH) == []
    assert window_words(Window(5, "tokens", 1), shipped()["de"]) == "5 Tokens pro Sekunde"


@pytest.mark.parametrize("code", sorted(shipped()))
def test_every_kind_of_usage_and_of_model_has_its_word(code: str) -> None:
    language = shipped()[code]
    assert not [kind for kind in KINDS if not language.known(f"unit_{kind}")]
    assert not [kind for kind in get_args(Kind) if not language.known(f"kind_{kind}")]
    assert offer(CATALOG, language)["language"] == code

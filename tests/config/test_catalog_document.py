"""Values become documents and documents values again: nothing is lost, nothing usual is written."""

from __future__ import annotations

import pytest

from config.catalog import Model, Rates, Timeouts, Upstream
from config.catalog_document import (
    model_document,
    prices_document,
    tier_document,
    upstream_document,
)
from config.catalog_forms import ModelForm, UpstreamForm
from config.price_form import PricesForm
from config.tier_form import TierForm
from ledger.price import Step
from policies.tier import Allowance, Tier, Window


def test_the_usual_is_not_written() -> None:
    assert upstream_document(Upstream("u", "http://h/v1")) == {"name": "u", "base_url": "http://h/v1"}
    assert model_document(Model("m", "u", "m"), None) == {"id": "m", "upstream": "u"}
    assert tier_document(Tier("t")) == {"name": "t"}


def test_an_upstream_is_written_with_what_differs() -> None:
    upstream = Upstream("u", "http://h/v1", "KEY", Timeouts(idle_s=5.5), {"x-a": "b"}, ("anthropic",), True)
    document = upstream_document(upstream)
    assert document["timeouts"] == {"idle_s": 5.5} and document["capabilities"] == ["anthropic"]
    assert UpstreamForm.model_validate(document).value() == upstream


def test_a_model_is_written_with_its_prices_in_the_words_of_the_file() -> None:
    rates = Rates({"output": 600_000, "input": 37_500, "images": 4 * 10**10}, 10_000, Step(9, {"input": 1}), {"b": {}})
    model = Model("m", "u", "other", tokenizer_factor_ppm=1_080_000, fallback="n", kind="image")
    document = model_document(model, rates)
    assert document["tokenizer_factor"] == "1.08" and document["upstream_model"] == "other"
    assert document["prices"] == {
        "input": "0.0375",
        "output": "0.60",
        "images": "0.04",
        "per_request": "0.00001",
        "long_context": {"above": 9, "input": "0.000001"},
        "variants": {"b": {}},
    }
    form = ModelForm.model_validate(document)
    assert (form.value(), form.rates()) == (model, rates)


def test_a_model_without_a_price_is_told_from_one_that_is_free() -> None:
    assert "prices" not in model_document(Model("m", "u", "m"), None)
    assert model_document(Model("m", "u", "m"), Rates())["prices"] == {} == prices_document(Rates())
    assert PricesForm.model_validate({}).value() == Rates()


@pytest.mark.parametrize(
    ("allowance", "written"),
    [
        (Allowance(1000, "tokens", zone="Europe/Berlin"), {"tokens": 1000, "zone": "Europe/Berlin"}),
        (Allowance(0, "tokens"), {"tokens": 0}),
        (Allowance(5 * 10**9, anniversary=True), {"usd": "5.0000", "anchor": "anniversary"}),
        (Allowance(1, every="week", anchor=7), {"usd": "0.000000001", "every": "week", "anchor": 7}),
    ],
)
def test_an_allowance_says_its_unit_and_what_is_not_usual(allowance: Allowance, written: dict[str, object]) -> None:
    tier = Tier("t", allowance=allowance)
    document = tier_document(tier)
    assert document["allowance"] == written
    assert TierForm.model_validate(document).value() == tier


def test_windows_are_written_with_the_words_people_use() -> None:
    windows = (
        Window(60, "requests", 60),
        Window(5 * 10**9, "cost", 90, "chat.completions", ("gpt-4*", "o3")),
    )
    tier = Tier("t", windows=windows, markup_ppm=10_000_000, price=20 * 10**9, price_every="year", features=())
    document = tier_document(tier)
    assert document["windows"] == [
        {"limit": 60, "of": "requests", "per": "minute"},
        {"limit": "5.0000", "of": "cost", "per": 90, "route": "chat.completions", "models": ["gpt-4*", "o3"]},
    ]
    assert (document["markup"], document["price"], document["price_every"]) == ("10", "20.0000", "year")
    assert TierForm.model_validate(document).value() == tier

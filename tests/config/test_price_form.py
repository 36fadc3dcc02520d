"""Prices as people write them: every kind of usage has its field, in its own unit."""

from __future__ import annotations

from config.price_form import KindsForm, LongContextForm, PricesForm
from ledger.price import Rates, Step
from ledger.usage import KINDS


def test_a_kind_of_usage_has_its_price_field() -> None:
    assert set(KindsForm.model_fields) == set(KINDS)


def test_a_price_is_read_and_shown_in_the_same_words() -> None:
    written = {
        "input": "0.15",
        "images": "0.04",
        "per_request": "0.0001",
        "long_context": {"above": 9, "output": "1.20"},
        "variants": {"flex": {"input": "0.075"}, "free": {}},
    }
    rates = Rates(
        {"input": 150_000, "images": 4 * 10**10},
        100_000,
        Step(9, {"output": 1_200_000}),
        {"flex": {"input": 75_000}, "free": {}},
    )
    assert PricesForm.model_validate(written).value() == rates
    assert PricesForm.showing(rates).document() == written


def test_a_step_is_read_and_shown_by_itself() -> None:
    step = Step(200_000, {"input": 2_500_000})
    form = LongContextForm.showing(step)
    assert form.value() == step and form.document() == {"above": 200_000, "input": "2.50"}


def test_a_price_of_nothing_is_a_price() -> None:
    assert PricesForm.model_validate({}).value() == Rates() and PricesForm.showing(Rates()).document() == {}

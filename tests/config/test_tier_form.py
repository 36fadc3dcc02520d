"""Tiers, windows and allowances as people write them: what belongs together, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config.tier_form import AllowanceForm, TierForm, WindowForm
from policies.tier import Allowance, Tier, Window


def test_a_tier_has_texts_of_its_own_for_what_its_users_are_told() -> None:
    own = {"fa": {"internal": "وای"}, "en": {"balance_short": "Only {balance}. {url}"}}
    form = TierForm.model_validate({"name": "a", "sentences": own, "listed": False})
    assert (form.value().sentences, form.value().listed) == (own, False)
    assert TierForm.showing(form.value()).document() == {"name": "a", "sentences": own, "listed": False}
    with pytest.raises(ValidationError, match=r"cannot hold \{wait\}"):
        TierForm.model_validate({"name": "a", "sentences": {"en": {"internal": "{wait}"}}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "either usd or tokens"),
        ({"usd": "1", "tokens": 1}, "either usd or tokens"),
        ({"tokens": 1, "every": "day", "anchor": "anniversary"}, "has no anchor"),
        ({"tokens": 1, "every": "year", "anchor": 1}, "has no anchor"),
        ({"tokens": 1, "every": "week", "anchor": 8}, "has no anchor"),
        ({"tokens": -1}, "greater than or equal"),
        ({"tokens": "1"}, "valid integer"),
    ],
)
def test_an_allowance_that_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AllowanceForm.model_validate(given)


def test_an_allowance_is_in_money_or_in_tokens() -> None:
    money = AllowanceForm.model_validate({"usd": "5"})
    assert money.value() == Allowance(5 * 10**9)
    tokens = AllowanceForm.model_validate({"tokens": 0, "anchor": "anniversary"})
    assert tokens.value() == Allowance(0, "tokens", anniversary=True)


def test_two_windows_that_would_be_counted_as_one_are_refused() -> None:
    window = {"limit": 5, "of": "requests", "per": "minute"}
    with pytest.raises(ValidationError, match="would be counted as one"):
        TierForm.model_validate({"name": "t", "windows": [window, window | {"limit": 6, "per": 60}]})


@pytest.mark.parametrize("limit", [None, True, 1.5, "5", -1, [], 2**53])
def test_a_limit_of_requests_is_a_whole_number(limit: Any) -> None:
    with pytest.raises(ValidationError):
        WindowForm.model_validate({"limit": limit, "of": "requests", "per": "minute"})


@pytest.mark.parametrize("limit", [None, True, 1.5, "-5", [], "9000001", {}])
def test_a_limit_of_a_cost_is_money(limit: Any) -> None:
    with pytest.raises(ValidationError):
        WindowForm.model_validate({"limit": limit, "of": "cost", "per": "minute"})


def test_a_tier_that_is_stored_can_be_shown_whatever_the_form_says_of_it_today() -> None:
    windows = (Window(5, "requests", 60), Window(6, "requests", 60, models=("a b",)))
    tier = Tier("has a space", windows=windows, features=("odd",), upgrade_url="nowhere", concurrency=10**9)
    shown = TierForm.showing(tier)
    assert shown.document()["name"] == "has a space" and shown.value() == tier

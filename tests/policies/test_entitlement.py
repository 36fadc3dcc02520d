"""What a tier does not grant is refused by name."""

from __future__ import annotations

import pytest

from policies.entitlement import check
from policies.tier import Tier

TIER = Tier("basic", models=("gpt-4*",), features=("tools",), max_context=1000, max_output=100)


def test_a_call_within_everything_is_not_refused() -> None:
    assert check(TIER, "gpt-4o", ["tools"], 1000, 100) is None
    assert check(TIER, "gpt-4o") is None
    assert check(Tier("open"), "any", ["audio"], 10**9, 10**9) is None


@pytest.mark.parametrize(
    ("model", "features", "context", "output", "code", "limit"),
    [
        ("claude", ["images"], 2000, 200, "model_not_allowed", "claude"),
        ("gpt-4o", ["tools", "images"], 2000, 200, "feature_not_allowed", "images"),
        ("gpt-4o", [], 1001, 200, "request_too_large", "max_context"),
        ("gpt-4o", [], 1000, 101, "request_too_large", "max_output"),
    ],
)
def test_the_first_thing_not_granted_is_named(
    model: str, features: list[str], context: int, output: int, code: str, limit: str
) -> None:
    denial = check(TIER, model, features, context, output)
    assert denial is not None
    assert (denial.code, denial.limit, denial.retry_after_ms) == (code, limit, 0)


def test_a_cap_says_its_bound_and_what_was_asked() -> None:
    denial = check(TIER, "gpt-4o", context_tokens=5000)
    assert denial is not None
    assert (denial.limit_value, denial.needed) == (1000, 5000)


def test_a_caller_who_names_no_output_is_within_any_cap() -> None:
    assert check(TIER, "gpt-4o", asked_output=None) is None

"""A tier as it is written down: what it grants, which windows a call meets, and what it refuses to be."""

from __future__ import annotations

import msgspec
import pytest

from policies.tier import Allowance, Tier, Window


def test_a_window_is_named_by_what_it_counts_and_not_by_its_limit() -> None:
    assert Window(10, "requests", 60).name == Window(99, "requests", 60).name == "requests/60"
    assert Window(1, "tokens", 3600, "chat.completions").name == "tokens/3600/chat.completions"
    assert Window(1, "tokens", 60, "embeddings", ("gpt-4*", "o1")).name == "tokens/60/embeddings/gpt-4*,o1"
    assert Window(1, "cost", 60, models=("gpt-4*",)).name == "cost/60/*/gpt-4*"


def test_a_window_of_a_scope_is_counted_apart() -> None:
    assert Window(1, "cost", 3600, scope="key:k").name == "key:k/cost/3600"
    assert Window(1, "cost", 60, models=("a*",), scope="key:k").name == "key:k/cost/60/*/a*"


def test_a_window_covers_the_calls_of_its_route_and_models() -> None:
    window = Window(1, "requests", 60, "chat.completions", ("gpt-4*",))
    assert window.covers("chat.completions", "gpt-4o")
    assert not window.covers("embeddings", "gpt-4o")
    assert not window.covers("chat.completions", "claude")
    assert Window(1, "requests", 60).covers("anything", "at-all")


def test_a_tier_grants_models_by_pattern_and_features_by_name() -> None:
    tier = Tier("basic", models=("gpt-4*", "claude-haiku"), features=("tools",))
    assert tier.allows_model("gpt-4o-mini") and tier.allows_model("claude-haiku")
    assert not tier.allows_model("claude-haiku-2") and not tier.allows_model("GPT-4o")
    assert tier.allows_feature("tools") and not tier.allows_feature("images")


def test_a_tier_that_says_nothing_grants_everything() -> None:
    tier = Tier("open")
    assert tier.allows_model("any") and tier.allows_feature("audio") and tier.windows_for("r", "m") == ()


def test_a_call_meets_only_the_windows_that_cover_it() -> None:
    everywhere, chat = Window(1, "requests", 60), Window(1, "tokens", 60, "chat.completions")
    tier = Tier("t", windows=(everywhere, chat))
    assert tier.windows_for("embeddings", "m") == (everywhere,)
    assert tier.windows_for("chat.completions", "m") == (everywhere, chat)


def test_a_tier_is_the_same_after_json() -> None:
    windows = (Window(5, "cost", 86400, None, ("a*",)),)
    tier = Tier("pro", windows=windows, allowance=Allowance(10**9, "usd", "week", "Asia/Kolkata", 1), upgrade_to="vip")
    assert msgspec.json.decode(msgspec.json.encode(tier), type=Tier) == tier
    tokens = Tier("t", allowance=Allowance(1000, "tokens", anniversary=True), price=5, price_every="year")
    assert msgspec.json.decode(msgspec.json.encode(tokens), type=Tier) == tokens


@pytest.mark.parametrize(
    "text",
    [
        '{"name": ""}',
        '{"name": "t", "concurrency": -1}',
        '{"name": "t", "windows": [{"limit": -1, "of": "requests", "seconds": 60}]}',
        '{"name": "t", "windows": [{"limit": 9007199254740992, "of": "cost", "seconds": 60}]}',
        '{"name": "t", "windows": [{"limit": 1, "of": "requests", "seconds": 0}]}',
        '{"name": "t", "windows": [{"limit": 1, "of": "words", "seconds": 60}]}',
        '{"name": "t", "allowance": {"amount": -1}}',
        '{"name": "t", "allowance": {"amount": 1, "unit": "words"}}',
        '{"name": "t", "allowance": {"amount": 1, "zone": "Nowhere"}}',
        '{"name": "t", "allowance": {"amount": 1, "every": "week", "anchor": 8}}',
        '{"name": "t", "allowance": {"amount": 1, "every": "year", "anniversary": true}}',
        '{"name": "t", "allowance": {"amount": 1, "anchor": 3, "anniversary": true}}',
    ],
)
def test_a_tier_that_makes_no_sense_is_not_decoded(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Tier)


def test_two_windows_that_would_share_a_counter_are_refused() -> None:
    with pytest.raises(ValueError, match="two windows"):
        Tier("t", windows=(Window(5, "requests", 60), Window(9, "requests", 60)))

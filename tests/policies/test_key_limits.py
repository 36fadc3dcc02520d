"""What a key allows by itself, counted for it alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from ledger.budget import Budget
from policies.key_limits import UNLIMITED, KeyLimits
from policies.tier import Window

OWNER = UUID(int=7)
CHAT = Window(5, "requests", 60, "chat.completions")


def test_a_key_that_says_nothing_allows_everything_and_is_stored_as_nothing() -> None:
    assert UNLIMITED.allows_model("any") and UNLIMITED.windows_for("r", "m") == ()
    assert msgspec.to_builtins(UNLIMITED) == {}


def test_a_key_allows_models_by_pattern() -> None:
    limits = KeyLimits(models=("gpt-4*", "o1"))
    assert limits.allows_model("gpt-4o") and limits.allows_model("o1") and not limits.allows_model("o1-mini")


def test_an_owned_keys_windows_are_counted_apart_from_the_tiers() -> None:
    owned = KeyLimits(windows=(CHAT,)).owned_by(OWNER)
    (window,) = owned.windows_for("chat.completions", "m")
    assert window.name == f"key:{OWNER}/requests/60/chat.completions" != CHAT.name
    assert owned.windows_for("embeddings", "m") == ()


def test_what_is_stored_is_nobodys() -> None:
    limits = KeyLimits(windows=(CHAT,), budget=Budget(5, "day"))
    owned = limits.owned_by(OWNER)
    assert owned.owner == OWNER and owned.bare() == limits
    assert msgspec.convert(msgspec.to_builtins(owned.bare()), KeyLimits) == limits


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"windows": (Window(5, "cost", 60), Window(6, "cost", 60))}, "two windows"),
        ({"budget": Budget(-1)}, "negative"),
        ({"budget": Budget(1, "week", anchor=8)}, "cannot begin"),
    ],
)
def test_limits_that_make_no_sense_are_refused(told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        KeyLimits(**told)

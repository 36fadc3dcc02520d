"""Answers combine by the stricter wins."""

from __future__ import annotations

from policies.decision import Deny, strictest

SHORT, LONG, NEVER = Deny("a", retry_after_ms=10), Deny("b", retry_after_ms=20), Deny("c")


def test_nobody_denying_is_no_denial() -> None:
    assert strictest([]) is None
    assert strictest([None, None]) is None


def test_the_longest_wait_wins() -> None:
    assert strictest([SHORT, None, LONG]) is LONG


def test_what_waiting_cannot_help_beats_any_wait() -> None:
    assert strictest([LONG, NEVER, SHORT]) is NEVER


def test_of_equals_the_first_wins() -> None:
    assert strictest([Deny("first", retry_after_ms=5), Deny("second", retry_after_ms=5)]) == Deny(
        "first", retry_after_ms=5
    )

"""What would happen to somebody's next call, and why: rule by rule, as values."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Verdict = Literal["pass", "refuse", "unknown"]


class Rule(Struct, frozen=True):
    """One rule and its answer.

    ``says`` is a plain sentence for a person; ``detail`` has the same in numbers and names: money as decimal USD
    strings, tokens as whole numbers, instants as RFC 3339. ``unknown``: whoever would decide does not answer.
    """

    name: str
    verdict: Verdict
    says: str
    detail: dict[str, Any] = {}


class Explanation(Struct, frozen=True):
    """The rules in the order in which a call meets them. ``code`` and ``message`` are what the call would be told, both
    empty where it would pass."""

    can_make_request: bool
    code: str
    message: str
    tier: str
    model: str | None
    rules: tuple[Rule, ...] = ()

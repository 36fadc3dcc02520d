"""The denial of a policy, as a value, and where a caller stands: with the numbers needed to act on it.

No status code, no sentence: those are made where the answer leaves the house.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from math import inf

from msgspec import Struct


class Deny(Struct, frozen=True):
    """No, and why.

    `code` is one of the public refusal codes; `limit` names the rule. `limit_value`, `used`, `needed` and `available`
    are in the unit of that rule. `retry_after_ms` 0 means that waiting does not help.
    """

    code: str
    limit: str = ""
    limit_value: int = 0
    used: int = 0
    needed: int = 0
    available: int = 0
    retry_after_ms: int = 0
    resets_at: datetime | None = None


class Standing(Struct, frozen=True):
    """What is left in the strictest window of one kind (requests or tokens): `remaining` of `limit`, all of it back in
    `reset_ms`."""

    kind: str
    limit: int
    remaining: int
    reset_ms: int


def strictest(answers: Iterable[Deny | None]) -> Deny | None:
    """The denial that keeps the caller out longest, or None if nobody denies; of equals, the first."""
    denials = [answer for answer in answers if answer is not None]
    return max(denials, key=_wait, default=None)


def _wait(denial: Deny) -> float:
    return denial.retry_after_ms or inf

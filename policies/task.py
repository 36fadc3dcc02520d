"""A rule for calls nobody typed (titles, tags, follow-ups, queries): who pays for them, at which part of the price, and
which model answers. Values only, and which of several rules is the one that counts. Pure.

The label that says so comes from the caller's side and can be forged. So no rule makes a call free without a bound: a
discount is one, and what the house pays has a cap for each user.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from ledger.budget import Budget

Payer = Literal["caller", "house"]

PPM = 1_000_000
FACTOR_PPM_MIN = PPM // 10
"""The deepest discount. Who would give more lets the house pay, up to a cap."""

_WILD = frozenset("*?[")


class TaskRule(Struct, frozen=True):
    """One rule. `name` is a label ("title_generation"), or an fnmatch pattern of labels.

    `factor_ppm` multiplies what the call costs beside the tier's markup. `cap` is what the house pays for each user in
    each period; where it is used up, the caller pays. `model` answers in place of the model that was asked for.
    """

    name: str
    pays: Payer = "caller"
    factor_ppm: int = PPM
    cap: Budget | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a rule for tasks needs a name")
        if not FACTOR_PPM_MIN <= self.factor_ppm <= PPM:
            raise ValueError("a task costs between a tenth and the whole of the price; more is the house's to pay")
        if (self.cap is None) != (self.pays == "caller"):
            raise ValueError("what the house pays needs a cap, and what the caller pays has none")
        if self.cap is not None and self.cap.every is None:
            raise ValueError("the cap of what the house pays is for each day, week, month or year")

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for several labels."""
        return not _WILD.isdisjoint(self.name)

    def covers(self, task: str) -> bool:
        """Whether calls with this label follow the rule."""
        return self.name == task or fnmatchcase(task, self.name)


def rule_for(rules: Iterable[TaskRule], task: str) -> TaskRule | None:
    """The rule that counts for this label: the one that names it, else the longest pattern. Calls without a label are
    what people ask for themselves, and follow none."""
    if not task:
        return None
    return max((rule for rule in rules if rule.covers(task)), key=_closeness, default=None)


def _closeness(rule: TaskRule) -> tuple[bool, int, str]:
    return not rule.is_pattern, len(rule.name), rule.name

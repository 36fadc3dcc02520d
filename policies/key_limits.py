"""What a key allows by itself, beside its user's tier: both must allow a call. A value only."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from ledger.budget import Budget
from policies import schedule
from policies.tier import Window, matches


class KeyLimits(Struct, frozen=True, omit_defaults=True):
    """The models a key may name (fnmatch patterns), windows counted for it alone, and money for each period.

    ``owner`` is whose counters these are, told by ``owned_by``: a key that took another's place counts on where that
    one stopped, so that nobody gets a budget twice by rotating a key. Never stored.
    """

    models: tuple[str, ...] = ("*",)
    windows: tuple[Window, ...] = ()
    budget: Budget | None = None
    owner: UUID | None = None

    def __post_init__(self) -> None:
        if len({window.name for window in self.windows}) < len(self.windows):
            raise ValueError("a key has two windows of the same kind, length and scope")
        schedule.check_budget(self.budget)

    def allows_model(self, model: str) -> bool:
        """Whether the key may name the model with this id."""
        return matches(self.models, model)

    def windows_for(self, route: str, model: str) -> tuple[Window, ...]:
        """The windows a call on ``route`` for ``model`` counts in."""
        return tuple(window for window in self.windows if window.covers(route, model))

    def owned_by(self, owner: UUID) -> KeyLimits:
        """These limits with counters of their own."""
        scope = f"key:{owner}"
        return replace(self, owner=owner, windows=tuple(replace(window, scope=scope) for window in self.windows))

    def bare(self) -> KeyLimits:
        """These limits as they are stored: nobody's yet."""
        return replace(self, owner=None, windows=tuple(replace(window, scope="") for window in self.windows))


UNLIMITED = KeyLimits()

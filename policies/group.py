"""A group: what its members have in common. A value only; who its members are is the accounts' business."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from msgspec import Struct

from ledger.budget import Budget
from policies import schedule
from policies.tier import Allowance


class Group(Struct, frozen=True):
    """What belonging to a group gives.

    ``tier`` is what members have whose own tier is not pinned. ``allowance`` is money (never tokens): each member's own
    in place of the tier's, or, where the group is ``shared``, the wallet's that all members spend from; ``member_cap``
    bounds what one member may spend of it. Of several groups the one of the lowest ``priority`` decides, then by name.
    """

    id: UUID
    name: str
    wallet_id: UUID
    tier: str | None = None
    priority: int = 100
    allowance: Allowance | None = None
    shared: bool = False
    member_cap: Budget | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a group needs a name")
        if self.allowance is not None and self.allowance.unit != "usd":
            raise ValueError("a group's allowance is money, not tokens")
        if self.allowance is not None and self.allowance.anniversary and self.shared:
            raise ValueError("a shared wallet has no anniversary: its members came at different times")
        schedule.check_budget(self.member_cap)

    @property
    def order(self) -> tuple[int, str]:
        """Where the group stands among those of one user."""
        return self.priority, self.name


def in_order(groups: Iterable[Group]) -> list[Group]:
    """The groups of one user, the one that decides first."""
    return sorted(groups, key=lambda group: group.order)

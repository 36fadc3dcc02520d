"""A budget: so much money that a key or a member may spend in each period, whatever the wallet holds. Pure.

How much of it is spent and held is a row of the bank, one for each period; its limit is told with each hold.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid5

import msgspec

from ledger.period import Every, Plan, bounds

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """``amount`` nano-USD for each period (``every`` None: once and for all); zone and anchor as in ``period.Plan``."""

    amount: int
    every: Every | None = None
    zone: str = "UTC"
    anchor: int | None = None


class BudgetPeriod(NamedTuple):
    """The bank's row that counts, and the instants between which it does (``ends_at`` None: it never ends)."""

    id: UUID
    starts_at: datetime
    ends_at: datetime | None


def period(budget: Budget, owner: UUID, now: datetime) -> BudgetPeriod:
    """The period of this owner's budget that contains ``now``.

    A budget of another length counts anew; another amount of the same one goes on where it stands.
    """
    if budget.every is None:
        return BudgetPeriod(uuid5(owner, "ever"), _EVER, None)
    start, end = bounds(Plan(budget.amount, budget.every, budget.zone, budget.anchor), now)
    return BudgetPeriod(uuid5(owner, f"{budget.every}:{start.isoformat()}"), start, end)

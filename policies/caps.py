"""Which budgets bound a caller's money beside its wallet: its key's, and its share of a wallet it shares; and which
bounds what the house pays for it. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from msgspec import Struct

from ledger.budget import Budget, period
from policies.group import Group
from policies.key_limits import KeyLimits
from policies.principal import Principal
from policies.task import TaskRule

Of = Literal["key", "member", "task"]


class Cap(Struct, frozen=True):
    """One budget in the period that runs: the bank knows it by ``id``. ``limit`` is nano-USD; ``ends_at`` None: it
    never starts anew. ``task`` names the rule whose calls the house pays."""

    of: Of
    id: UUID
    limit: int
    ends_at: datetime | None
    task: str = ""


def caps_of(principal: Principal, now: datetime) -> tuple[Cap, ...]:
    """Every budget that a call of this caller counts in."""
    found = key_cap(principal.limits, now), member_cap(principal.group, principal.user_id, now)
    return tuple(cap for cap in found if cap is not None)


def key_cap(limits: KeyLimits | None, now: datetime) -> Cap | None:
    """What a key may spend; keys that took each other's place count in one budget."""
    if limits is None or limits.budget is None or limits.owner is None:
        return None
    return _cap("key", limits.budget, limits.owner, now)


def member_cap(group: Group | None, user_id: UUID, now: datetime) -> Cap | None:
    """What one member may spend of the wallet its group shares."""
    if group is None or not group.shared or group.member_cap is None:
        return None
    return _cap("member", group.member_cap, uuid5(group.id, str(user_id)), now)


def task_cap(rule: TaskRule, user_id: UUID, now: datetime) -> Cap | None:
    """What the house pays for one user's calls that follow this rule; None where the callers pay."""
    if rule.cap is None:
        return None
    return _cap("task", rule.cap, uuid5(user_id, f"task:{rule.name}"), now, rule.name)


def _cap(of: Of, budget: Budget, owner: UUID, now: datetime, task: str = "") -> Cap:
    running = period(budget, owner, now)
    return Cap(of, running.id, budget.amount, running.ends_at, task)

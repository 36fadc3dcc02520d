"""Which allowance a caller has, as the bank is asked for it. Pure.

A period by anniversary begins on the day the user got the tier; the day is taken in the allowance's own zone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ledger.period import Plan
from policies.group import Group
from policies.tier import Allowance, Tier

_NEVER_ASKED = datetime(1970, 1, 1, tzinfo=UTC)  # what is shared has no anniversary


def money_plan(tier: Tier, since: datetime, group: Group | None = None) -> Plan | None:
    """The money of each period, in nano-USD; None where none is given.

    A group's credits stand in place of the tier's. A shared wallet gets the group's and nobody else's: the tiers of its
    members must not replace each other's money in it.
    """
    if group is not None and (group.shared or group.allowance is not None):
        return None if group.allowance is None else _plan(group.allowance, since, f"group:{group.id}")
    return _of_unit(tier, "usd", since)


def shared_plan(group: Group) -> Plan | None:
    """The money of each period that the wallet of a group is given; None where its members share none."""
    if not group.shared or group.allowance is None:
        return None
    return _plan(group.allowance, _NEVER_ASKED, f"group:{group.id}")


def token_plan(tier: Tier, since: datetime, group: Group | None = None) -> Plan | None:
    """The tokens of each period; None where the tier counts money. Who spends a shared wallet has none beside it."""
    return None if group is not None and group.shared else _of_unit(tier, "tokens", since)


def _of_unit(tier: Tier, unit: str, since: datetime) -> Plan | None:
    allowance = tier.allowance
    return None if allowance is None or allowance.unit != unit else _plan(allowance, since, tier.name)


def _plan(allowance: Allowance, since: datetime, name: str) -> Plan:
    anchor = _anniversary(allowance, since) if allowance.anniversary else allowance.anchor
    return Plan(allowance.amount, allowance.every, allowance.zone, anchor, name)


def _anniversary(allowance: Allowance, since: datetime) -> int:
    day = since.astimezone(ZoneInfo(allowance.zone)).date()
    return day.isoweekday() if allowance.every == "week" else day.day

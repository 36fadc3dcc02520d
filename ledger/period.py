"""Periods of an allowance. Pure.

A period is ``[start, end)`` between two local midnights of the tier's IANA zone, given as UTC instants. There is no
reset job: a new period is a new grant, opened by the first call that needs it. An anchor day the month does not have is
the month's last day.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

Every = Literal["day", "week", "month", "year"]


class Plan(msgspec.Struct, frozen=True):
    """An allowance as the bank sees it: so much money (nano-USD) for each period.

    ``anchor`` is the day on which a month (1..31) or week (1 = Monday .. 7) begins, 1 if not said; a year begins on
    January 1st. ``name`` tells one tier's allowance from another's: who changes tiers gets the new one's at once.
    """

    amount: int
    every: Every = "month"
    zone: str = "UTC"
    anchor: int | None = None
    name: str = ""


def bounds(plan: Plan, now: datetime) -> tuple[datetime, datetime]:
    """The period that contains ``now`` (aware), as aware UTC instants ``(start, end)``."""
    zone = ZoneInfo(plan.zone)
    first = _first_day(plan, now.astimezone(zone).date())
    return _midnight(first, zone), _midnight(_next_first(plan, first), zone)


def _first_day(plan: Plan, today: date) -> date:
    anchor = plan.anchor or 1
    if plan.every == "day":
        return today
    if plan.every == "week":
        return today - timedelta(days=(today.isoweekday() - anchor) % 7)
    if plan.every == "year":
        return date(today.year, 1, 1)
    this = _anchored(today.year, today.month, anchor)
    return this if this <= today else _anchored(*_month_after(today, -1), anchor)


def _next_first(plan: Plan, first: date) -> date:
    if plan.every == "day":
        return first + timedelta(days=1)
    if plan.every == "week":
        return first + timedelta(days=7)
    if plan.every == "year":
        return date(first.year + 1, 1, 1)
    return _anchored(*_month_after(first, 1), plan.anchor or 1)


def _anchored(year: int, month: int, anchor: int) -> date:
    return date(year, month, min(anchor, calendar.monthrange(year, month)[1]))


def _month_after(day: date, months: int) -> tuple[int, int]:
    index = day.year * 12 + day.month - 1 + months
    return index // 12, index % 12 + 1


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    # fold=0: where clocks go back over midnight the day begins at the first of the two; where they jump over it,
    # the conversion lands on the first instant that exists.
    return datetime.combine(day, time.min, zone).astimezone(UTC)

"""Whether a period can be meant: what it is as long as, where it begins. Pure."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from ledger.budget import Budget

_LAST_ANCHOR = {"week": 7, "month": 31}


def check(every: str | None, zone: str, anchor: int | None) -> None:
    """Raises ValueError for a zone nobody knows, and for a day on which no such period can begin."""
    if anchor is not None and not 1 <= anchor <= _LAST_ANCHOR.get(every or "", 0):
        raise ValueError(f"a period by the {every or 'lifetime'} cannot begin on day {anchor}")
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{zone!r} is not a time zone of the IANA list, like Europe/Berlin") from None


def check_budget(budget: Budget | None) -> None:
    """Raises ValueError for a budget that cannot be meant; none at all is fine."""
    if budget is None:
        return
    if budget.amount < 0:
        raise ValueError(f"a budget must not be negative, not {budget.amount}")
    check(budget.every, budget.zone, budget.anchor)

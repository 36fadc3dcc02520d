"""Months of the ledger: their names, the bounds of their ids, their tables. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from uuid import UUID

from ledger.ids import floor

PARENTS = {
    "holds": ("id",),
    "charges": ("request_id", "rev"),
    "journal_entries": ("id",),
    "postings": ("entry_id", "line"),
}
"""The tables that have a partition for each month, with their keys. Bookings lock them in this order."""

_NAMED = re.compile(r"(\d{4})-?(\d\d)")


def parse(text: str) -> date:
    """The month of ``2026-11``, by its first day. Raises ValueError for anything else."""
    found = _NAMED.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= 12 or not 1970 < int(found[1]) < 10_000:
        raise ValueError(f"{text} is not a month: write it like 2026-11")
    return date(int(found[1]), int(found[2]), 1)


def name(month: date) -> str:
    return f"{month:%Y-%m}"


def table(parent: str, month: date) -> str:
    """The partition of this table and month."""
    return f"{parent}_{month:%Y%m}"


def tables(month: date) -> tuple[str, ...]:
    """All partitions of a month."""
    return tuple(table(parent, month) for parent in PARENTS)


def plus(month: date, months: int) -> date:
    """So many months later; before, where below zero."""
    index = month.year * 12 + month.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def month_of(instant: datetime) -> date:
    """The month of UTC in which this lies."""
    return instant.astimezone(UTC).date().replace(day=1)


def bounds(month: date) -> tuple[UUID, UUID]:
    """The first id of the month, and the first one behind it."""
    return _first(month), _first(plus(month, 1))


def begins(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def _first(month: date) -> UUID:
    return floor(begins(month))

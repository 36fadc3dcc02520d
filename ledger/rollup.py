"""What charges add to the statistics: sums by hour, day and month, by user, and who was active. Pure.

A call belongs to the hour (UTC) in which it was admitted, which its id says: every revision of its charge falls into
the same hour. Of a call with several charges the last word counts: a final one brings its own figures and takes back
those of the provisional one before it, so that the call is counted once, whenever each of the two is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from ledger.price import PPM, Price, charge_amount
from ledger.usage import Usage

_HOUR_MS = 3_600_000

TABLES: Mapping[str, tuple[str, ...]] = {
    "usage_by_hour": ("hour", "model", "tier", "task", "currency"),
    "usage_by_day": ("day", "model", "tier", "task", "currency"),
    "usage_by_month": ("month", "model", "tier", "task", "currency"),
    "usage_by_user_day": ("user_id", "day", "model", "task", "currency"),
    "usage_by_user_month": ("month", "currency", "user_id"),
    "usage_by_user_year": ("year", "currency", "user_id"),
}
"""The tables of sums, each with the columns of its key."""

MEASURES = ("calls", "input_tokens", "cached_tokens", "output_tokens", "amount")
"""What every table sums. Input tokens are all of them, cached ones included; amounts are nano-units."""

HOUSE_MEASURES = ("list_amount", "overrun", "house_amount")
"""What the tables that know no user sum besides: the amount at list price, before the tier's markup; the part the
wallets did not cover; the part of ``amount`` the house bore itself."""


def measures(table: str) -> tuple[str, ...]:
    """The summed columns of a table."""
    return MEASURES if "user_id" in TABLES[table] else MEASURES + HOUSE_MEASURES


class Counted(NamedTuple):
    """A charge as the statistics see it; ``sign`` is -1 for one whose call has a later word."""

    request_id: UUID
    user_id: UUID
    tier: str
    model: str
    task: str
    currency: str
    usage: Usage
    amount: int
    overrun: int
    house: bool
    price_version: int
    factor_ppm: int
    variant: str
    sign: int = 1


Fine = tuple[int, UUID, str, str, str, str]
"""The hour (since 1970), user, tier, model, task and currency of a charge: every table sums what these tell apart."""


@dataclass(slots=True)
class Rollup:
    """What some charges add, by table and key; and who was active: ``(period, its first day, user)``."""

    sums: dict[str, dict[tuple[object, ...], list[int]]] = field(
        default_factory=lambda: {table: {} for table in TABLES}
    )
    active: set[tuple[str, date, UUID]] = field(default_factory=set)

    def add(self, key: Fine, values: list[int]) -> None:
        """Count what the charges of one key come to."""
        hour, day, active = _calendar(key[0])
        for table, coarse in _keys(key, hour, day).items():
            sums = self.sums[table]
            known = sums.get(coarse)
            sums[coarse] = values if known is None else _sum(known, values)
        self.active.update([(period, first, key[1]) for period, first in active])


def rolled(charges: Iterable[Counted], prices: Mapping[int, Price]) -> Rollup:
    """What all of them add together: summed by the finest key first, so that a table is not touched for each charge."""
    fine: dict[Fine, list[int]] = {}
    for charge in charges:
        hour = (charge.request_id.int >> 80) // _HOUR_MS
        key = (hour, charge.user_id, charge.tier, charge.model, charge.task, charge.currency)
        values = _values(charge, prices.get(charge.price_version))
        known = fine.get(key)
        fine[key] = values if known is None else _sum(known, values)
    rollup = Rollup()
    for key, values in fine.items():
        rollup.add(key, values)
    return rollup


def _sum(some: list[int], others: list[int]) -> list[int]:
    return [a + b for a, b in zip(some, others, strict=True)]


def periods(day: date) -> tuple[tuple[str, date], ...]:
    """The day, the week (from Monday on) and the month a day belongs to, each by its first day."""
    return ("day", day), ("week", day - timedelta(days=day.weekday())), ("month", day.replace(day=1))


def list_amount(charge: Counted, price: Price | None) -> int:
    """What the charge would be without its tier's markup. Where no price explains it, it is what it is."""
    if price is None or charge.factor_ppm == PPM:
        return charge.amount
    return charge_amount(charge.usage, price, PPM, charge.variant)


@lru_cache(maxsize=1024)
def _calendar(hour: int) -> tuple[datetime, date, tuple[tuple[str, date], ...]]:
    """The hour so many hours after 1970, its day, and the periods of that. Calls come many an hour."""
    begins = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    return begins, begins.date(), periods(begins.date())


def _keys(key: Fine, hour: datetime, day: date) -> dict[str, tuple[object, ...]]:
    _, user_id, tier, model, task, currency = key
    month = day.replace(day=1)
    labels = (model, tier, task, currency)
    return {
        "usage_by_hour": (hour, *labels),
        "usage_by_day": (day, *labels),
        "usage_by_month": (month, *labels),
        "usage_by_user_day": (user_id, day, model, task, currency),
        "usage_by_user_month": (month, currency, user_id),
        "usage_by_user_year": (day.replace(month=1, day=1), currency, user_id),
    }


def _values(charge: Counted, price: Price | None) -> list[int]:
    usage = charge.usage
    figures = [
        1,
        usage.input_tokens,
        usage.cache_read,
        usage.output_tokens,
        charge.amount,
        list_amount(charge, price),
        charge.overrun,
        charge.amount if charge.house else 0,
    ]
    return figures if charge.sign == 1 else [-figure for figure in figures]

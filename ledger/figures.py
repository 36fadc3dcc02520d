"""The figures of a house at a glance: today, this month, this year; and what all wallets hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import floor
from ledger.journal import CURRENCY, TOKENS
from ledger.reading import fetch, reader
from ledger.rollup import HOUSE_MEASURES, MEASURES
from ledger.spans import midnight
from ledger.stats import SUMS, Usage

# What is given back of a call the house bore, or of an allowance in tokens, was never revenue.
_REFUNDED = """
    SELECT coalesce(sum(r.amount - r.forgiven), 0)::bigint FROM refunds r
    CROSS JOIN LATERAL (SELECT currency, house FROM charges c WHERE c.request_id = r.request_id LIMIT 1) AS charged
    WHERE r.id >= $1 AND charged.currency = 'USD' AND NOT charged.house
"""
_REFUSED = "SELECT coalesce(sum(refusals), 0)::bigint FROM refusals_by_hour WHERE hour >= $1"
_HELD = """
    SELECT currency, count(*), coalesce(sum(spendable), 0)::bigint, coalesce(sum(held), 0)::bigint
    FROM wallets GROUP BY currency ORDER BY currency DESC
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """One period in all: usage in USD, tokens charged to allowances in tokens, money given back, calls refused.

    ``calls`` and tokens are those of all currencies, the amounts are nano-USD.
    """

    since: date
    usage: Usage
    allowance_tokens: int
    refunded: int
    refusals: int

    @property
    def revenue(self) -> int:
        """What people really paid: without what the house bore, what nobody covered and what was given back."""
        usage = self.usage
        return usage.amount - usage.house_amount - usage.overrun - self.refunded


@dataclass(frozen=True, slots=True)
class Held:
    """What all wallets of a currency hold, and how much of it is set aside for running calls."""

    currency: str
    wallets: int
    spendable: int
    held: int


async def figures(engine: AsyncEngine, now: datetime) -> list[Figures]:
    """Today, this month and this year, each up to now."""
    day = now.astimezone(UTC).date()
    year = day.replace(month=1, day=1)
    spans = (("day", day), ("month", day.replace(day=1)), ("month", year))
    async with reader(engine) as driver:
        return [await _figures(driver, grain, since) for grain, since in spans]


async def held(engine: AsyncEngine) -> list[Held]:
    """What all wallets hold, by currency: what Farebox owes its users."""
    return [Held(*row) for row in await fetch(engine, _HELD)]


async def _figures(driver: Any, grain: str, since: date) -> Figures:
    begun = midnight(since)
    query = f"SELECT currency, {SUMS} FROM usage_by_{grain} WHERE {grain} >= $1 GROUP BY currency"
    sums = {row["currency"]: row for row in await driver.fetch(query, since)}
    money, tokens = sums.get(CURRENCY), sums.get(TOKENS)
    counted = {each: sum(row[each] for row in sums.values()) for each in MEASURES if each != "amount"}
    amounts = {each: money[each] if money else 0 for each in ("amount", *HOUSE_MEASURES)}
    return Figures(
        since=since,
        usage=Usage(**counted, **amounts),
        allowance_tokens=tokens["amount"] if tokens else 0,
        refunded=await driver.fetchval(_REFUNDED, floor(begun)),
        refusals=await driver.fetchval(_REFUSED, begun),
    )

"""Recomputes every invariant of the ledger, from the facts alone, in one consistent snapshot.

Each check answers with the rows that break it; none means it holds. Nothing is repaired here. Of a month that is
detached the sums that its seal carries stand for its rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger import audit, rollup_check, verify_books, verify_calls, verify_months, verify_orders
from ledger.verify_books import Checked

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: its name (I1 …), what it says, how many rows were looked at, and examples of what breaks it."""

    name: str
    says: str
    looked_at: int
    broken: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.broken

    def line(self) -> str:
        verdict = "ok" if self.holds else "BROKEN " + "; ".join(self.broken[:_SHOWN])
        return f"{self.name:4} {self.says} ({self.looked_at} looked at): {verdict}"


# Each looks at the database through an asyncpg connection in a transaction that sees one instant.
_CHECKS: tuple[tuple[str, str, Callable[[Any], Awaitable[Checked]]], ...] = (
    ("I1", "each journal entry sums to zero per currency, and is booked once", verify_books.entries),
    ("I2", "spendable = sum of live grants = sum of the wallet's postings", verify_books.wallets),
    ("I3", "nothing below zero; held = sum of open and quarantined holds", verify_books.held),
    ("I4", "a hold's spent = what its charges drew; none open past its horizon", verify_calls.holds),
    (
        "I5",
        "per call at most one provisional and one final; each ended call has its charge",
        verify_calls.charged_once,
    ),
    ("I6", "each charge recomputes to its amount", verify_calls.amounts),
    ("I6b", "what a call was charged is what its entries book as revenue", verify_calls.revenue),
    ("I7", "usage parts are known kinds, whole and not negative", verify_calls.usages),
    ("I8", "cash = what was paid in", verify_books.cash),
    ("I9", "the audit chain has no gap, and every hash verifies", audit.check),
    ("I11", "a budget's spent = its calls' charges; its held = what its holds lock", verify_orders.budgets),
    ("I12", "refunds of a call come to no more than its charge; each is its entry", verify_orders.refunds),
    ("I13", "each credit is its entry; each charge from outside is a charge", verify_orders.credits),
    ("I14", "the statistics and what waits to be counted = the charges", rollup_check.check),
    ("I15", "every row stands in its month; a sealed month carries what its seal says", verify_months.check),
)


async def verify(engine: AsyncEngine) -> list[Finding]:
    """Every invariant, in order. Raises what the driver raises when the database cannot be read."""
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return [await _finding(connection, *check) for check in _CHECKS]


async def _finding(connection: Any, name: str, says: str, check: Callable[[Any], Awaitable[Checked]]) -> Finding:
    count, broken = await check(connection)
    return Finding(name, says, count, tuple(broken))


async def drained(engine: AsyncEngine) -> Finding:
    """I10, which holds only when no call runs: nothing is held. (Slots and the spool are the process's to say.)"""
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        rows = await connection.fetch(
            "SELECT 'wallet ' || id AS what, held FROM wallets WHERE held <> 0 "
            "UNION ALL SELECT 'budget ' || id, held FROM budgets WHERE held <> 0"
        )
        count = await connection.fetchval("SELECT count(*) FROM wallets")
    return Finding("I10", "nothing is held", count, tuple(f"{r['what']} holds {r['held']}" for r in rows))

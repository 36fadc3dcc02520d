"""A wallet's statement: its entries, newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import LAST

_PAGE_MAX = 1000

# One pass over the wallet's own index, from its end: what is not on the page is not read. Its entries are named one by
# one, so that they are looked up, whatever the planner thinks of their number.
_ENTRIES = """
    WITH page AS MATERIALIZED (
        SELECT entry_id,
               -coalesce(sum(amount) FILTER (WHERE account LIKE '%:plan'), 0)::bigint AS plan,
               -coalesce(sum(amount) FILTER (WHERE account LIKE '%:promo'), 0)::bigint AS promo,
               -coalesce(sum(amount) FILTER (WHERE account LIKE '%:paid'), 0)::bigint AS paid
        FROM postings WHERE wallet_id = $1 AND entry_id < $2
        GROUP BY entry_id ORDER BY entry_id DESC LIMIT $3
    )
    SELECT e.id, e.booked_at, e.kind, e.ref, page.plan, page.promo, page.paid
    FROM journal_entries e JOIN page ON page.entry_id = e.id
    WHERE e.id = ANY (ARRAY(SELECT entry_id FROM page)) ORDER BY e.id DESC
"""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry as the wallet sees it: ``amount`` came in (below zero: went out), ``by_kind`` of money. Units of the
    wallet's currency."""

    entry_id: UUID
    at: datetime
    kind: str
    ref: str
    amount: int
    by_kind: dict[str, int]


async def entries(engine: AsyncEngine, wallet_id: UUID, *, before: UUID | None, limit: int) -> list[StatementLine]:
    """At most ``limit`` (of 1000) entries that were booked before the one named, newest first. None for a wallet
    nobody has. Raises what the driver raises."""
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        rows = await connection.fetch(_ENTRIES, wallet_id, before or LAST, min(limit, _PAGE_MAX))
    return [_line(*row) for row in rows]


def _line(entry_id: UUID, at: datetime, kind: str, ref: str, plan: int, promo: int, paid: int) -> StatementLine:
    by_kind = {name: amount for name, amount in (("plan", plan), ("promo", promo), ("paid", paid)) if amount}
    return StatementLine(entry_id, at, kind, ref, plan + promo + paid, by_kind)

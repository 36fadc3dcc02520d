"""What the ledger says was used, by day, model and kind: the side of a reconciliation that is ours.

Of a call with several charges the last word counts, as it does for its money. A day is a UTC day, and a call belongs
to the day on which it ended.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

# Calls are found by their ids, which say when they began: at most this long before they ended.
_CALL_MAX = timedelta(days=2)

_USED = """
    SELECT (at AT TIME ZONE 'UTC')::date AS day, model, upstream, part.key AS kind,
           sum(part.value::numeric)::bigint AS amount
    FROM (
        SELECT DISTINCT ON (request_id) at, model, upstream, usage FROM charges
        WHERE request_id >= uuid7_floor($1) AND request_id < uuid7_floor($3)
        ORDER BY request_id, rev = 'provisional'
    ) AS told, jsonb_each_text(usage) AS part
    WHERE at >= $2 AND at < $3 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""


class Used(NamedTuple):
    """So much of one kind (``ledger.usage.KINDS``), by the catalogue's model over this upstream, on this day."""

    day: date
    model: str
    upstream: str
    kind: str
    amount: int


async def used(engine: AsyncEngine, first: date, last: date) -> list[Used]:
    """Everything charged from the first day to the last, both included. Raises what the driver raises."""
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        return [Used(*row) for row in await connection.fetch(_USED, begin - _CALL_MAX, begin, end)]

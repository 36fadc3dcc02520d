"""What a seal carries of its month, so that the ledger adds up without the month's rows: its sums by account, wallet
and grant, by budget, and those of the statistics; and the orders that refer to its rows."""

from __future__ import annotations

from datetime import date
from hashlib import sha256
from typing import Any

_COPY_S = 24 * 3600.0

ORDERED = """
    SELECT (SELECT count(*) FROM credits WHERE entry_id >= $1 AND entry_id < $2) AS credits,
           (SELECT coalesce(sum(amount), 0) FROM credits WHERE entry_id >= $1 AND entry_id < $2) AS credited,
           (SELECT coalesce(sum(amount), 0) FROM refunds WHERE entry_id >= $1 AND entry_id < $2) AS refunds_booked,
           (SELECT coalesce(sum(forgiven), 0) FROM refunds WHERE entry_id >= $1 AND entry_id < $2) AS forgiven,
           (SELECT coalesce(sum(amount), 0) FROM refunds WHERE request_id >= $1 AND request_id < $2) AS refunded,
           (SELECT count(*) FROM outside_charges WHERE request_id >= $1 AND request_id < $2) AS outside
"""
"""Of the ids from the first to before the second."""

_POSTINGS = """
    INSERT INTO month_postings (month, account, wallet_id, grant_id, currency, amount, postings)
    SELECT $1, account, wallet_id, grant_id, currency, sum(amount), count(*) FROM postings
    WHERE entry_id >= $2 AND entry_id < $3 GROUP BY account, wallet_id, grant_id, currency
"""
_BUDGETS = """
    INSERT INTO month_budgets (month, budget_id, charged)
    SELECT $1, budget_id, sum(charged) FROM (
        SELECT h.budget_ids, coalesce(max(c.amount) FILTER (WHERE c.rev <> 'provisional'), max(c.amount), 0) AS charged
        FROM holds h JOIN charges c ON c.request_id = h.id
        WHERE h.budget_ids IS NOT NULL AND h.id >= $2 AND h.id < $3 AND c.request_id >= $2 AND c.request_id < $3
        GROUP BY h.id, h.budget_ids
    ) AS calls, unnest(budget_ids) AS budget_id GROUP BY budget_id
"""
_CARRIED = (
    "SELECT account, wallet_id, grant_id, currency, amount, postings FROM month_postings WHERE month = '{month}' "
    "ORDER BY account, wallet_id, grant_id, currency",
    "SELECT budget_id, charged FROM month_budgets WHERE month = '{month}' ORDER BY budget_id",
    "SELECT charged FROM month_seals WHERE month = '{month}'",
)


async def put_on_record(connection: Any, month: date, first: object, end: object) -> bytes:
    """Add up the month's rows, whose ids begin and end there, beside its seal; the hash over what that seal carries."""
    await connection.execute(_POSTINGS, month, first, end)
    await connection.execute(_BUDGETS, month, first, end)
    return await sums_hash(connection, month)


async def sums_hash(connection: Any, month: date) -> bytes:
    """The hash over what the month's seal carries."""
    whole = sha256()
    for query in _CARRIED:
        whole.update((await copied(connection, query.format(month=month)))[0])
    return whole.digest()


async def copied(connection: Any, query: str) -> tuple[bytes, int]:
    """The hash over a query's rows as the server writes them for COPY, and how many there are. They pass through as a
    stream."""
    digest = sha256()

    async def take(piece: bytes) -> None:
        digest.update(piece)

    said = await connection.copy_from_query(query, output=take, timeout=_COPY_S)
    return digest.digest(), int(said.rpartition(" ")[2])

"""What `farebox verify` recomputes of what people ordered: budgets, refunds, credits, charges from outside.

Each check answers with how many rows it looked at, and a line for each that breaks it.
"""

from __future__ import annotations

from typing import Any

from ledger.verify_books import Checked, broken_rows

_BUDGETS = """
    WITH calls AS (
        SELECT h.id, h.budget_ids,
               CASE h.state WHEN 'open' THEN h.amount WHEN 'quarantine' THEN h.amount - h.spent ELSE 0 END AS locked,
               coalesce(max(c.amount) FILTER (WHERE c.rev <> 'provisional'), max(c.amount), 0) AS charged
        FROM holds h LEFT JOIN charges c ON c.request_id = h.id
        WHERE h.budget_ids IS NOT NULL GROUP BY h.id, h.budget_ids, h.state, h.amount, h.spent
    ),
    sums AS (
        SELECT id, sum(charged) AS charged, sum(locked) AS locked FROM (
            SELECT budget_id AS id, charged, locked FROM calls, unnest(budget_ids) AS budget_id
            UNION ALL SELECT budget_id, charged, 0 FROM carried_budgets
        ) AS told GROUP BY id
    )
    SELECT id, b.spent, b.held, coalesce(s.charged, 0) AS charged, coalesce(s.locked, 0) AS locked
    FROM budgets b FULL JOIN sums s USING (id)
    WHERE b.spent IS DISTINCT FROM coalesce(s.charged, 0) OR b.held IS DISTINCT FROM coalesce(s.locked, 0)
"""

_REFUNDED = """
    SELECT r.request_id, r.refunded, coalesce(c.charged, 0) AS charged
    FROM (SELECT request_id, sum(amount) AS refunded FROM refunds WHERE request_id >= attached_from()
          GROUP BY request_id) r
    LEFT JOIN LATERAL (
        SELECT coalesce(max(amount) FILTER (WHERE rev <> 'provisional'), max(amount)) AS charged
        FROM charges WHERE request_id = r.request_id
    ) c ON true
    WHERE r.refunded > coalesce(c.charged, 0)
"""

_REFUND_ENTRIES = """
    SELECT r.id, r.amount, r.forgiven, coalesce(sum(p.amount) FILTER (WHERE p.account = 'rev:usage'), 0) AS booked,
           coalesce(-sum(p.amount) FILTER (WHERE p.account = 'exp:bad_debt'), 0) AS written_back
    FROM refunds r LEFT JOIN postings p ON p.entry_id = r.entry_id
    WHERE r.entry_id >= attached_from() GROUP BY r.id
    HAVING r.amount <> coalesce(sum(p.amount) FILTER (WHERE p.account = 'rev:usage'), 0)
        OR r.forgiven <> coalesce(-sum(p.amount) FILTER (WHERE p.account = 'exp:bad_debt'), 0)
"""

_REFUNDS_UNTOLD = """
    SELECT e.ref FROM journal_entries e LEFT JOIN refunds r ON r.entry_id = e.id
    WHERE e.kind = 'refund' AND r.id IS NULL
"""

_CREDITS = """
    SELECT c.id, c.amount, coalesce(-sum(p.amount), 0) AS booked
    FROM credits c LEFT JOIN postings p ON p.entry_id = c.entry_id AND p.wallet_id = c.wallet_id
    WHERE c.entry_id >= attached_from() GROUP BY c.id HAVING c.amount <> coalesce(-sum(p.amount), 0)
"""

_OUTSIDE = """
    SELECT o.ref FROM outside_charges o
    LEFT JOIN charges c ON c.request_id = o.request_id AND c.wallet_id = o.wallet_id
    WHERE c.request_id IS NULL AND o.request_id >= attached_from()
"""


async def budgets(connection: Any) -> Checked:
    broken = [
        f"budget {r['id']}: spent {r['spent']}, charged {r['charged']}; held {r['held']}, holds lock {r['locked']}"
        for r in await broken_rows(connection, _BUDGETS)
    ]
    return await connection.fetchval("SELECT count(*) FROM budgets"), broken


async def refunds(connection: Any) -> Checked:
    broken = [
        f"call {r['request_id']}: refunded {r['refunded']}, charged {r['charged']}"
        for r in await broken_rows(connection, _REFUNDED)
    ]
    broken += [
        f"refund {r['id']} of {r['amount']} ({r['forgiven']} forgiven): its entry has {r['booked']} "
        f"({r['written_back']})"
        for r in await broken_rows(connection, _REFUND_ENTRIES)
    ]
    broken += [f"entry {r['ref']} has no refund" for r in await broken_rows(connection, _REFUNDS_UNTOLD)]
    return await connection.fetchval("SELECT count(*) FROM refunds"), broken


async def credits(connection: Any) -> Checked:
    broken = [
        f"credit {r['id']} of {r['amount']}: its entry has {r['booked']}"
        for r in await broken_rows(connection, _CREDITS)
    ]
    broken += [f"outside charge {r['ref']} has no charge" for r in await broken_rows(connection, _OUTSIDE)]
    count = await connection.fetchval("SELECT (SELECT count(*) FROM credits) + (SELECT count(*) FROM outside_charges)")
    return count, broken

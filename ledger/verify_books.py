"""What `farebox verify` recomputes of the books: entries, wallets, grants, cash.

Each check answers with how many rows it looked at, and a line for each that breaks it.
"""

from __future__ import annotations

from typing import Any

Checked = tuple[int, list[str]]

MANY = 1000
"""More faults of one kind than these are not told: a ledger that is broken everywhere must not fill the memory."""


async def broken_rows(connection: Any, query: str, *args: Any) -> list[Any]:
    """What a query finds, up to a bound. Planned as it stands: most often it finds nothing, and looks at everything."""
    return list(
        await connection.fetch(f"WITH broken AS MATERIALIZED ({query}) SELECT * FROM broken LIMIT {MANY}", *args)
    )


async def entries(connection: Any) -> Checked:
    rows = await broken_rows(
        connection,
        "SELECT entry_id, currency, sum(amount) AS sum FROM postings "
        "GROUP BY entry_id, currency HAVING sum(amount) <> 0",
    )
    lost = await broken_rows(
        connection,
        "SELECT e.ref FROM journal_entries e LEFT JOIN postings p ON p.entry_id = e.id WHERE p.entry_id IS NULL",
    )
    stray = await broken_rows(
        connection,
        "SELECT DISTINCT p.entry_id FROM postings p LEFT JOIN journal_entries e ON e.id = p.entry_id "
        "WHERE e.id IS NULL",
    )
    twice = await broken_rows(connection, "SELECT ref FROM journal_entries GROUP BY ref HAVING count(*) > 1")
    foreign = await broken_rows(
        connection,
        "SELECT p.entry_id, p.currency, p.wallet_id FROM postings p JOIN wallets w ON w.id = p.wallet_id "
        "WHERE p.currency <> w.currency",
    )
    broken = [f"entry {r['entry_id']} sums to {r['sum']} {r['currency']}" for r in rows]
    broken += [f"entry {r['ref']} has no postings" for r in lost]
    broken += [f"postings without an entry: {r['entry_id']}" for r in stray]
    broken += [f"ref {r['ref']} booked twice" for r in twice]
    broken += [f"entry {r['entry_id']} moves {r['currency']} in wallet {r['wallet_id']}" for r in foreign]
    count = await connection.fetchval("SELECT count(*) FROM journal_entries")
    return count, broken


async def wallets(connection: Any) -> Checked:
    rows = await broken_rows(
        connection,
        """
        SELECT w.id, w.spendable, coalesce(g.live, 0) AS live, coalesce(p.posted, 0) AS posted
        FROM wallets w
        LEFT JOIN (SELECT wallet_id, sum(remaining) AS live FROM grants GROUP BY wallet_id) g ON g.wallet_id = w.id
        LEFT JOIN (
            SELECT wallet_id, sum(posted) AS posted FROM (
                SELECT wallet_id, -sum(amount) AS posted FROM postings WHERE wallet_id IS NOT NULL GROUP BY wallet_id
                UNION ALL SELECT wallet_id, -amount FROM carried_postings WHERE wallet_id IS NOT NULL
            ) AS sums GROUP BY wallet_id
        ) p ON p.wallet_id = w.id
        WHERE w.spendable <> coalesce(g.live, 0) OR w.spendable <> coalesce(p.posted, 0)
        """,
    )
    grants = await broken_rows(
        connection,
        """
        SELECT g.id, g.remaining, coalesce(p.posted, 0) AS posted FROM grants g
        LEFT JOIN (
            SELECT grant_id, sum(posted) AS posted FROM (
                SELECT grant_id, -sum(amount) AS posted FROM postings WHERE grant_id IS NOT NULL GROUP BY grant_id
                UNION ALL SELECT grant_id, -amount FROM carried_postings WHERE grant_id IS NOT NULL
            ) AS sums GROUP BY grant_id
        ) p ON p.grant_id = g.id
        WHERE g.remaining <> coalesce(p.posted, 0)
        """,
    )
    broken = [
        f"wallet {r['id']}: spendable {r['spendable']}, grants {r['live']}, postings {r['posted']}" for r in rows
    ] + [f"grant {r['id']}: remaining {r['remaining']}, postings {r['posted']}" for r in grants]
    count = await connection.fetchval("SELECT count(*) FROM wallets")
    return count, broken


async def held(connection: Any) -> Checked:
    rows = await broken_rows(
        connection,
        """
        SELECT w.id, w.spendable, w.held, coalesce(h.locked, 0) AS locked FROM wallets w
        LEFT JOIN (
            SELECT wallet_id, sum(CASE state WHEN 'open' THEN amount ELSE amount - spent END) AS locked
            FROM holds WHERE state IN ('open', 'quarantine') AND NOT coalesce((facts ->> 'house')::boolean, false)
            GROUP BY wallet_id
        ) h ON h.wallet_id = w.id
        WHERE w.held <> coalesce(h.locked, 0) OR w.spendable - w.held < 0
        """,
    )
    negative = await broken_rows(connection, "SELECT id FROM grants WHERE remaining < 0")
    broken = [
        f"wallet {r['id']}: held {r['held']}, holds lock {r['locked']}, spendable {r['spendable']}" for r in rows
    ] + [f"grant {r['id']} is below zero" for r in negative]
    count = await connection.fetchval("SELECT count(*) FROM holds WHERE state IN ('open', 'quarantine')")
    return count, broken


async def cash(connection: Any) -> Checked:
    # What came by a merge was paid in by the wallet it came from.
    row = await connection.fetchrow(
        """
        SELECT (SELECT coalesce(sum(amount), 0) FROM postings
                WHERE account LIKE 'cash:%' AND currency = 'USD')
             + (SELECT coalesce(sum(amount), 0) FROM carried_postings
                WHERE account LIKE 'cash:%' AND currency = 'USD') AS cash,
               (SELECT coalesce(sum(amount), 0) FROM grants
                WHERE kind = 'paid' AND funding LIKE 'cash:%' AND source NOT LIKE 'merge:%') AS paid
        """
    )
    broken = [] if row["cash"] == row["paid"] else [f"cash {row['cash']}, paid in {row['paid']}"]
    return await connection.fetchval("SELECT count(*) FROM grants WHERE kind = 'paid'"), broken

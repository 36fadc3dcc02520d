"""Recomputes every invariant of the ledger, from the facts alone, in one consistent snapshot.

Each check answers with the rows that break it; none means it holds. Nothing is repaired here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.price import Price, Rates, charge_amount
from ledger.usage import KINDS, Usage

_SHOWN = 5
_GRACE_S = 60


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


async def verify(engine: AsyncEngine) -> list[Finding]:
    """Every invariant, in order. Raises what the driver raises when the database cannot be read."""
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return [await check(connection) for check in _CHECKS]


async def _i1(connection: Any) -> Finding:
    rows = await connection.fetch(
        "SELECT entry_id, currency, sum(amount) AS sum FROM postings "
        "GROUP BY entry_id, currency HAVING sum(amount) <> 0"
    )
    lost = await connection.fetch(
        "SELECT e.ref FROM journal_entries e LEFT JOIN postings p ON p.entry_id = e.id WHERE p.entry_id IS NULL"
    )
    stray = await connection.fetch(
        "SELECT DISTINCT p.entry_id FROM postings p LEFT JOIN journal_entries e ON e.id = p.entry_id WHERE e.id IS NULL"
    )
    twice = await connection.fetch("SELECT ref FROM journal_entries GROUP BY ref HAVING count(*) > 1")
    broken = [f"entry {r['entry_id']} sums to {r['sum']} {r['currency']}" for r in rows]
    broken += [f"entry {r['ref']} has no postings" for r in lost]
    broken += [f"postings without an entry: {r['entry_id']}" for r in stray]
    broken += [f"ref {r['ref']} booked twice" for r in twice]
    count = await connection.fetchval("SELECT count(*) FROM journal_entries")
    return Finding("I1", "each journal entry sums to zero per currency, and is booked once", count, tuple(broken))


async def _i2(connection: Any) -> Finding:
    rows = await connection.fetch(
        """
        SELECT w.id, w.spendable, coalesce(g.live, 0) AS live, coalesce(p.posted, 0) AS posted
        FROM wallets w
        LEFT JOIN (SELECT wallet_id, sum(remaining) AS live FROM grants GROUP BY wallet_id) g ON g.wallet_id = w.id
        LEFT JOIN (
            SELECT wallet_id, -sum(amount) AS posted FROM postings WHERE wallet_id IS NOT NULL GROUP BY wallet_id
        ) p ON p.wallet_id = w.id
        WHERE w.spendable <> coalesce(g.live, 0) OR w.spendable <> coalesce(p.posted, 0)
        """
    )
    grants = await connection.fetch(
        """
        SELECT g.id, g.remaining, coalesce(p.posted, 0) AS posted FROM grants g
        LEFT JOIN (SELECT grant_id, -sum(amount) AS posted FROM postings WHERE grant_id IS NOT NULL GROUP BY grant_id) p
            ON p.grant_id = g.id
        WHERE g.remaining <> coalesce(p.posted, 0)
        """
    )
    broken = [
        f"wallet {r['id']}: spendable {r['spendable']}, grants {r['live']}, postings {r['posted']}" for r in rows
    ] + [f"grant {r['id']}: remaining {r['remaining']}, postings {r['posted']}" for r in grants]
    count = await connection.fetchval("SELECT count(*) FROM wallets")
    return Finding("I2", "spendable = sum of live grants = sum of the wallet's postings", count, tuple(broken))


async def _i3(connection: Any) -> Finding:
    rows = await connection.fetch(
        """
        SELECT w.id, w.spendable, w.held, coalesce(h.locked, 0) AS locked FROM wallets w
        LEFT JOIN (
            SELECT wallet_id, sum(CASE state WHEN 'open' THEN amount ELSE amount - spent END) AS locked
            FROM holds WHERE state IN ('open', 'quarantine') GROUP BY wallet_id
        ) h ON h.wallet_id = w.id
        WHERE w.held <> coalesce(h.locked, 0) OR w.spendable - w.held < 0
        """
    )
    negative = await connection.fetch("SELECT id FROM grants WHERE remaining < 0")
    broken = [
        f"wallet {r['id']}: held {r['held']}, holds lock {r['locked']}, spendable {r['spendable']}" for r in rows
    ] + [f"grant {r['id']} is below zero" for r in negative]
    count = await connection.fetchval("SELECT count(*) FROM holds WHERE state IN ('open', 'quarantine')")
    return Finding("I3", "nothing below zero; held = sum of open and quarantined holds", count, tuple(broken))


async def _i4(connection: Any) -> Finding:
    rows = await connection.fetch(
        """
        SELECT h.id, h.state, h.spent, coalesce(p.drawn, 0) AS drawn FROM holds h
        LEFT JOIN (
            SELECT c.request_id, sum(p.amount) AS drawn FROM charges c
            JOIN postings p ON p.entry_id = c.entry_id AND p.wallet_id IS NOT NULL GROUP BY c.request_id
        ) p ON p.request_id = h.id
        WHERE h.spent <> coalesce(p.drawn, 0) OR (h.state = 'quarantine' AND h.spent > h.amount)
        """
    )
    late = await connection.fetch(
        "SELECT id, state FROM holds WHERE state IN ('open', 'quarantine') "
        "AND release_at < now() - make_interval(secs => $1)",
        _GRACE_S,
    )
    broken = [f"hold {r['id']} ({r['state']}): spent {r['spent']}, drawn {r['drawn']}" for r in rows]
    broken += [f"hold {r['id']} is {r['state']} past its horizon" for r in late]
    count = await connection.fetchval("SELECT count(*) FROM holds")
    return Finding("I4", "a hold's spent = what its charges drew; none open past its horizon", count, tuple(broken))


async def _i5(connection: Any) -> Finding:
    rows = await connection.fetch(
        "SELECT request_id FROM charges WHERE rev <> 'provisional' GROUP BY request_id HAVING count(*) > 1"
    )
    uncharged = await connection.fetch(
        """
        SELECT h.id, h.state FROM holds h
        WHERE (h.state IN ('settled', 'quarantine')) <> EXISTS (SELECT 1 FROM charges c WHERE c.request_id = h.id)
          AND h.state <> 'open'
        """
    )
    stray = await connection.fetch(
        "SELECT c.request_id FROM charges c LEFT JOIN holds h ON h.id = c.request_id WHERE h.id IS NULL"
    )
    broken = [f"call {r['request_id']} is charged twice" for r in rows]
    broken += [f"hold {r['id']} is {r['state']} and its charge does not say so" for r in uncharged]
    broken += [f"charge {r['request_id']} was never admitted" for r in stray]
    count = await connection.fetchval("SELECT count(*) FROM charges")
    return Finding(
        "I5", "per call at most one provisional and one final; each ended call has its charge", count, tuple(broken)
    )


async def _i6(connection: Any) -> Finding:
    prices, broken = await _prices(connection)
    count = 0
    async for row in _charges(connection):
        count += 1
        price = prices.get(row["price_version"])
        usage = _usage(row["usage"])
        if row["amount"] == 0 and usage == Usage():
            continue  # nothing was consumed, or nothing was known yet
        if price is None:
            broken.append(f"charge {row['request_id']}: price version {row['price_version']} is not there")
        elif usage is None or charge_amount(usage, price, row["factor_ppm"], row["variant"]) != row["amount"]:
            broken.append(f"charge {row['request_id']} {row['rev']}: {row['amount']} does not recompute")
    return Finding("I6", "each charge recomputes to its amount", count, tuple(broken))


async def _i6_posted(connection: Any) -> Finding:
    rows = await connection.fetch(
        """
        SELECT c.request_id, c.last, coalesce(sum(-p.amount), 0) AS revenue FROM (
            SELECT request_id, coalesce(max(amount) FILTER (WHERE rev <> 'provisional'), max(amount)) AS last,
                   array_agg(entry_id) AS entries
            FROM charges GROUP BY request_id
        ) c LEFT JOIN postings p ON p.entry_id = ANY (c.entries) AND p.account = 'rev:usage'
        GROUP BY c.request_id, c.last HAVING coalesce(sum(-p.amount), 0) <> c.last
        """
    )
    broken = [f"call {r['request_id']}: charged {r['last']}, booked {r['revenue']}" for r in rows]
    count = await connection.fetchval("SELECT count(DISTINCT request_id) FROM charges")
    return Finding("I6b", "what a call was charged is what its entries book as revenue", count, tuple(broken))


async def _i7(connection: Any) -> Finding:
    broken, count = [], 0
    async for row in _charges(connection):
        count += 1
        usage = _usage(row["usage"])
        if usage is None or any(getattr(usage, kind) < 0 for kind in KINDS):
            broken.append(f"charge {row['request_id']} {row['rev']}: usage {row['usage']}")
    return Finding("I7", "usage parts are known kinds, whole and not negative", count, tuple(broken))


async def _i8(connection: Any) -> Finding:
    row = await connection.fetchrow(
        """
        SELECT (SELECT coalesce(sum(amount), 0) FROM postings WHERE account LIKE 'cash:%') AS cash,
               (SELECT coalesce(sum(amount), 0) FROM grants WHERE kind = 'paid' AND funding LIKE 'cash:%') AS paid
        """
    )
    broken = () if row["cash"] == row["paid"] else (f"cash {row['cash']}, paid in {row['paid']}",)
    count = await connection.fetchval("SELECT count(*) FROM grants WHERE kind = 'paid'")
    return Finding("I8", "cash = what was paid in", count, broken)


_CHECKS: tuple[Callable[[Any], Awaitable[Finding]], ...] = (_i1, _i2, _i3, _i4, _i5, _i6, _i6_posted, _i7, _i8)


async def drained(engine: AsyncEngine) -> Finding:
    """I10, which holds only when no call runs: nothing is held. (Slots and the spool are the process's to say.)"""
    async with engine.connect() as pooled:
        connection = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        rows = await connection.fetch("SELECT id, held FROM wallets WHERE held <> 0")
        count = await connection.fetchval("SELECT count(*) FROM wallets")
    return Finding("I10", "nothing is held", count, tuple(f"wallet {r['id']} holds {r['held']}" for r in rows))


async def _prices(connection: Any) -> tuple[dict[int, Price], list[str]]:
    """Every price by its version, and a line for each whose document is not understood (a negative number, say)."""
    rows = await connection.fetch("SELECT version, model_id, doc::text AS doc FROM prices ORDER BY version")
    prices, broken = {}, []
    for row in rows:
        try:
            rates = msgspec.json.decode(row["doc"], type=Rates)
        except msgspec.MsgspecError as error:
            broken.append(f"price version {row['version']} of {row['model_id']} is not understood: {error}")
        else:
            prices[row["version"]] = Price.of(row["version"], row["model_id"], rates)
    return prices, broken


async def _charges(connection: Any) -> AsyncIterator[Any]:
    query = "SELECT request_id, rev, usage::text AS usage, price_version, factor_ppm, variant, amount FROM charges"
    async for row in connection.cursor(query, prefetch=5000):
        yield row


def _usage(text: str) -> Usage | None:
    """The stored usage; None when it has a kind that does not exist or a part that is not a whole number."""
    try:
        parts = msgspec.json.decode(text, type=dict[str, int])
        return Usage(**parts)
    except (msgspec.MsgspecError, TypeError):
        return None

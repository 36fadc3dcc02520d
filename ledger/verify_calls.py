"""What `farebox verify` recomputes of the calls: their holds, their charges, their usage.

Each check answers with how many rows it looked at, and a line for each that breaks it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from ledger.journal import TOKENS
from ledger.price import BY_AMOUNT, BY_TOKENS, TOKEN_PRICE, Price, Rates, charge_amount
from ledger.usage import KINDS, Usage
from ledger.verify_books import MANY, Checked, broken_rows

_GRACE_S = 60


async def holds(connection: Any) -> Checked:
    rows = await broken_rows(
        connection,
        """
        SELECT h.id, h.state, h.spent, coalesce(p.drawn, 0) AS drawn FROM holds h
        LEFT JOIN (
            SELECT c.request_id, sum(p.amount) AS drawn FROM charges c
            JOIN postings p ON p.entry_id = c.entry_id AND p.wallet_id IS NOT NULL GROUP BY c.request_id
        ) p ON p.request_id = h.id
        WHERE h.spent <> coalesce(p.drawn, 0) OR (h.state = 'quarantine' AND h.spent > h.amount)
        """,
    )
    late = await broken_rows(
        connection,
        "SELECT id, state FROM holds WHERE state IN ('open', 'quarantine') "
        "AND release_at < now() - make_interval(secs => $1)",
        _GRACE_S,
    )
    broken = [f"hold {r['id']} ({r['state']}): spent {r['spent']}, drawn {r['drawn']}" for r in rows]
    broken += [f"hold {r['id']} is {r['state']} past its horizon" for r in late]
    count = await connection.fetchval("SELECT count(*) FROM holds")
    return count, broken


async def charged_once(connection: Any) -> Checked:
    rows = await broken_rows(
        connection, "SELECT request_id FROM charges WHERE rev <> 'provisional' GROUP BY request_id HAVING count(*) > 1"
    )
    uncharged = await broken_rows(
        connection,
        """
        SELECT h.id, h.state FROM holds h
        WHERE (h.state IN ('settled', 'quarantine')) <> EXISTS (SELECT 1 FROM charges c WHERE c.request_id = h.id)
          AND h.state <> 'open'
        """,
    )
    stray = await broken_rows(
        connection, "SELECT c.request_id FROM charges c LEFT JOIN holds h ON h.id = c.request_id WHERE h.id IS NULL"
    )
    broken = [f"call {r['request_id']} is charged twice" for r in rows]
    broken += [f"hold {r['id']} is {r['state']} and its charge does not say so" for r in uncharged]
    broken += [f"charge {r['request_id']} was never admitted" for r in stray]
    count = await connection.fetchval("SELECT count(*) FROM charges")
    return count, broken


async def amounts(connection: Any) -> Checked:
    prices, broken = await _prices(connection)
    count = 0
    async for row in _charges(connection):
        count += 1
        usage = _usage(row["usage"])
        if row["amount"] == 0 and usage == Usage():
            continue  # nothing was consumed, or nothing was known yet
        if len(broken) < MANY and (fault := _fault(row, usage, prices)):
            broken.append(f"charge {row['request_id']} {row['rev']}: {fault}")
    foreign = await broken_rows(
        connection,
        "SELECT c.request_id FROM charges c JOIN wallets w ON w.id = c.wallet_id WHERE c.currency <> w.currency",
    )
    return count, broken + [f"charge {r['request_id']} is not in its wallet's currency" for r in foreign]


def _fault(row: Any, usage: Usage | None, prices: dict[int, Price]) -> str:
    """What is wrong with the amount of a charge; "" for nothing."""
    version = row["price_version"]
    if version == BY_AMOUNT:
        return "" if row["asked"] == row["amount"] else f"{row['amount']} is not what was asked for, {row['asked']}"
    if (version == BY_TOKENS) != (row["currency"] == TOKENS):
        return f"price version {version} is not one of {row['currency']}"
    price = prices.get(version)
    if price is None:
        return f"price version {version} is not there"
    if usage is None or charge_amount(usage, price, row["factor_ppm"], row["variant"]) != row["amount"]:
        return f"{row['amount']} does not recompute"
    return ""


async def revenue(connection: Any) -> Checked:
    rows = await broken_rows(
        connection,
        """
        SELECT request_id, last, revenue FROM (
            SELECT c.request_id, coalesce(max(c.amount) FILTER (WHERE c.rev <> 'provisional'), max(c.amount)) AS last,
                   coalesce(sum(p.revenue), 0) AS revenue
            FROM charges c LEFT JOIN (
                SELECT entry_id, -sum(amount) AS revenue FROM postings WHERE account = 'rev:usage' GROUP BY entry_id
            ) p ON p.entry_id = c.entry_id
            GROUP BY c.request_id
        ) calls WHERE last <> revenue
        """,
    )
    broken = [f"call {r['request_id']}: charged {r['last']}, booked {r['revenue']}" for r in rows]
    count = await connection.fetchval("SELECT count(DISTINCT request_id) FROM charges")
    return count, broken


async def usages(connection: Any) -> Checked:
    broken: list[str] = []
    count = 0
    async for row in _charges(connection):
        count += 1
        usage = _usage(row["usage"])
        if len(broken) < MANY and (usage is None or any(getattr(usage, kind) < 0 for kind in KINDS)):
            broken.append(f"charge {row['request_id']} {row['rev']}: usage {row['usage']}")
    return count, broken


async def _prices(connection: Any) -> tuple[dict[int, Price], list[str]]:
    """Every price by its version, and a line for each whose document is not understood (a negative number, say)."""
    rows = await connection.fetch("SELECT version, model_id, doc::text AS doc FROM prices ORDER BY version")
    prices, broken = {BY_TOKENS: TOKEN_PRICE}, []
    for row in rows:
        try:
            rates = msgspec.json.decode(row["doc"], type=Rates)
        except msgspec.MsgspecError as error:
            broken.append(f"price version {row['version']} of {row['model_id']} is not understood: {error}")
        else:
            prices[row["version"]] = Price.of(row["version"], row["model_id"], rates)
    return prices, broken


async def _charges(connection: Any) -> AsyncIterator[Any]:
    query = """
        SELECT c.request_id, rev, usage::text AS usage, price_version, factor_ppm, variant, c.amount, currency,
               o.amount AS asked
        FROM charges c LEFT JOIN outside_charges o ON o.request_id = c.request_id
    """
    async for row in connection.cursor(query, prefetch=5000):
        yield row


def _usage(text: str) -> Usage | None:
    """The stored usage; None when it has a kind that does not exist or a part that is not a whole number."""
    try:
        parts = msgspec.json.decode(text, type=dict[str, int])
        return Usage(**parts)
    except (msgspec.MsgspecError, TypeError):
        return None

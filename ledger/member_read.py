"""What many users used, at once: for the members of a group, and for the keys somebody acted by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.journal import CURRENCY, TOKENS
from ledger.reading import fetch
from ledger.store import BudgetState


@dataclass(frozen=True, slots=True)
class Used:
    """Calls and what they were charged: nano-USD, and the tokens of those that tokens paid for. Nothing by default."""

    calls: int = 0
    amount: int = 0
    amount_tokens: int = 0

    def and_also(self, currency: str, calls: int, amount: int) -> Used:
        """With calls of one currency more."""
        usd = amount if currency == CURRENCY else 0
        tokens = amount if currency == TOKENS else 0
        return Used(self.calls + calls, self.amount + usd, self.amount_tokens + tokens)


NOTHING = Used()

# An identity merged into a user counts as that user.
_BY_USER = """
    SELECT coalesce(u.merged_into, u.id), m.currency, sum(m.calls)::bigint, sum(m.amount)::bigint
    FROM users u JOIN usage_by_user_month m ON m.user_id = u.id
    WHERE (u.id = ANY ($1::uuid[]) OR u.merged_into = ANY ($1::uuid[]))
      AND m.month = $2 AND m.currency = ANY (ARRAY['USD', 'TOK'])
    GROUP BY 1, 2
"""
# A scalar subquery is asked for the few provisional charges alone.
_BY_KEY = """
    SELECT key_id, currency, count(*), sum(amount)::bigint FROM charges c
    WHERE key_id = ANY ($1::uuid[])
      AND (rev <> 'provisional' OR (SELECT f.rev FROM charges f
                                    WHERE f.request_id = c.request_id AND f.rev <> 'provisional' LIMIT 1) IS NULL)
    GROUP BY 1, 2
"""
_BUDGETS = "SELECT id, spent, held FROM budgets WHERE id = ANY ($1::uuid[])"


async def used_in_month(engine: AsyncEngine, users: Sequence[UUID], month: date) -> Mapping[UUID, Used]:
    """What each of these users used in the month (UTC) that begins on this day, merged identities included; who used
    nothing is missing. The newest calls may be missing for a second or so. Raises what the driver raises."""
    return _summed(await fetch(engine, _BY_USER, list(users), month))


async def used_by_key(engine: AsyncEngine, keys: Sequence[UUID]) -> Mapping[UUID, Used]:
    """What was ever used by each of these keys; one that was not used is missing. Raises what the driver raises."""
    return _summed(await fetch(engine, _BY_KEY, list(keys)))


async def budget_states(engine: AsyncEngine, budgets: Sequence[UUID]) -> Mapping[UUID, BudgetState]:
    """What is spent and held of these budgets; one that no call named yet is missing. Raises what the driver raises."""
    rows = await fetch(engine, _BUDGETS, list(budgets))
    return {row["id"]: BudgetState(row["spent"], row["held"]) for row in rows}


def _summed(rows: Iterable[Any]) -> Mapping[UUID, Used]:
    found: dict[UUID, Used] = {}
    for who, currency, calls, amount in rows:
        found[who] = found.get(who, NOTHING).and_also(currency, calls, amount)
    return found

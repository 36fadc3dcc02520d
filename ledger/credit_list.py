"""What people gave a wallet and took from it, newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import LAST
from ledger.reading import fetch

_PAGE_MAX = 1000

_CREDITS = """
    SELECT id, at, kind, amount, reason, source, expires_at, actor, entry_id FROM credits
    WHERE wallet_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class ListedCredit:
    """One credit as it is on record; ``amount`` is below zero where something was taken. Units of the wallet's
    currency."""

    id: UUID
    at: datetime
    kind: str
    amount: int
    reason: str
    source: str
    expires_at: datetime | None
    actor: str
    entry_id: UUID


async def credits(engine: AsyncEngine, wallet_id: UUID, *, before: UUID | None, limit: int) -> list[ListedCredit]:
    """At most ``limit`` (of 1000) credits that are older than the one named, newest first. Raises what the driver
    raises."""
    rows = await fetch(engine, _CREDITS, wallet_id, before or LAST, min(limit, _PAGE_MAX))
    return [ListedCredit(*row) for row in rows]

"""Which tier a user has of its own, at once or from an instant on. What is in force, `standing.py` tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.store import audited, change_of, make_due
from accounts.tables import SINCE_EVER, users
from accounts.user_changes import TOUCHED, Step, UserChanges
from accounts.users import User
from ledger import system_events
from ledger.audit import SYSTEM, Actor

_UNPLANNED: dict[str, Any] = {"next_tier": None, "next_tier_at": None}
_AT_ONCE = 500


class Tiers(UserChanges):
    """What can be done to the tiers of users. Effective on every replica within two seconds."""

    async def set_tier(
        self, user_id: UUID, tier: str, *, at: datetime | None = None, by: Actor = SYSTEM
    ) -> User | None:
        """Pin this tier, before any group's: at once, or from the instant ``at`` on. What was planned before is
        dropped. None where there is no such user."""
        return await self._take(user_id, (tier_step(tier, at),), by)

    async def count_on_tier(self, tier: str) -> int:
        """How many users have this tier of their own, or are to get it; the deleted ones do not count."""
        theirs = or_(users.c.tier == tier, users.c.next_tier == tier)
        query = select(func.count()).select_from(users).where(theirs, users.c.status != "deleted")
        async with self._transaction() as connection:
            return int(await connection.scalar(query) or 0)

    async def settle_due_tiers(self, *, most: int = _AT_ONCE, user_id: UUID | None = None) -> int:
        """Write down planned changes whose instant has come, ``most`` at once or one user's alone, and have the bank
        look at the wallets; how many they were. Replicas that do it together share the work; for one user they wait
        for each other."""
        async with self._transaction() as connection:
            due = await _lock_due(connection, most, user_id)
            if due:
                await _settle(connection, due, in_bulk=user_id is None)
        return len(due)


def tier_step(tier: str | None, at: datetime | None = None) -> Step:
    """The step by which a user gets this tier, at once or from ``at`` on; None: what the groups decide, at once."""
    if tier is None:
        return Step("user.unpin", {"tier_pinned": False, **_UNPLANNED}, SINCE_EVER)
    if at is not None and at > datetime.now(UTC):
        return Step("user.tier", {"next_tier": tier, "next_tier_at": at}, at)
    return Step("user.tier", {"tier": tier, "tier_pinned": True, **_UNPLANNED}, SINCE_EVER)


async def _lock_due(connection: AsyncConnection, most: int, user_id: UUID | None) -> Sequence[Any]:
    query = select(users.c.id, users.c.wallet_id, users.c.tier, users.c.next_tier).where(
        users.c.next_tier_at <= func.now()
    )
    if user_id is not None:
        query = query.where(users.c.id == user_id)
    locked = query.order_by(users.c.id).limit(most).with_for_update(key_share=True, skip_locked=user_id is None)
    return (await connection.execute(locked)).all()


async def _settle(connection: AsyncConnection, due: Sequence[Any], *, in_bulk: bool) -> None:
    since = case((users.c.tier == users.c.next_tier, users.c.tier_since), else_=users.c.next_tier_at)
    news = {"tier": users.c.next_tier, "tier_since": since, "tier_pinned": True, **_UNPLANNED, "updated_at": TOUCHED}
    await connection.execute(update(users).where(users.c.id.in_([row.id for row in due])).values(news))
    await make_due(connection, [row.wallet_id for row in due])
    if in_bulk:
        await system_events.record(connection, "info", "tiers.changed", users=len(due))
    changes = (change_of("user.tier", "user", row.id, {"tier": row.tier}, {"tier": row.next_tier}) for row in due)
    await audited(connection, SYSTEM, *changes)

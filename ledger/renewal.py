"""What a wallet is due: grants that have ended go, the allowance of the period that has begun comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ledger import statements
from ledger.booking import Booking
from ledger.drawer import Drawer, open_drawer, read_grants, write
from ledger.ids import uuid7
from ledger.journal import EXPENSE_PROMO
from ledger.period import Plan, bounds
from ledger.wallet import PRIORITY, Grant, Wallet

_FOREVER = datetime.max.replace(tzinfo=UTC)
# What has ended but still backs a hold is looked at again after this long; and so is a wallet whose plan may have
# changed, because a replica that has not heard of it may have been the first to ask.
_LOOK_AGAIN = timedelta(seconds=5)


async def renew(connection: Any, wallet_id: UUID, plan: Plan | None) -> None:
    """Book what a wallet is due, in a transaction of its own; one that somebody else has locked is left to them."""
    async with connection.transaction():
        drawer = await open_drawer(connection, {wallet_id})
        if wallet_id not in drawer.due:
            return
        await read_grants(connection, drawer.wallets)
        booking = Booking()
        await book_due(connection, booking, drawer.wallets[wallet_id], plan, drawer)
        await write(connection, booking, drawer.now)


async def book_due(connection: Any, booking: Booking, wallet: Wallet, plan: Plan | None, drawer: Drawer) -> None:
    """The same inside the caller's transaction, which has the wallet locked and its grants read."""
    now = drawer.now
    booking.take_back("expiry", wallet.expire(now), now)
    period_end, source = _FOREVER, ""
    if plan is not None:
        start, period_end = bounds(plan, now)
        source = f"plan:{plan.name}:{start.isoformat()}"
    booking.take_back("replaced", wallet.replace_plan(source), now)
    if (
        plan is not None
        and plan.amount > 0
        and not await connection.fetchval(statements.SOURCE_KNOWN, wallet.id, source)
    ):
        funding, rank = EXPENSE_PROMO, PRIORITY["plan"]
        booking.fill(wallet, Grant(uuid7(), "plan", plan.amount, rank, period_end, now, funding, source), now)
    due_at = min(period_end, wallet.next_end() or _FOREVER)
    soon = now + _LOOK_AGAIN
    booking.touch(wallet, due_at if now < due_at and wallet.id not in drawer.told else soon)

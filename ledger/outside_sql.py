"""Charges from outside in Postgres: work that was done elsewhere, held and charged in one transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from ledger import statements
from ledger.audit import SYSTEM, Actor, Change, append
from ledger.booking import Booking
from ledger.drawer import read_grants, wait_for_drawer, write
from ledger.hold import Closing, Hold, Outcome, Settlement, State, settle
from ledger.ids import uuid7_at
from ledger.price import BY_AMOUNT, charge_amount
from ledger.renewal import book_due
from ledger.store import MonthClosed, NotEnough, OutsideDone, OutsideOrder
from ledger.usage import Usage, UsageSource
from ledger.vault import Vault
from ledger.wallet import Wallet

# Clocks differ by a little.
AHEAD_MAX = timedelta(minutes=5)


class Outside(Vault):
    """The part of the bank that charges what did not pass the gateway."""

    async def charge_outside(self, order: OutsideOrder, by: Actor = SYSTEM) -> OutsideDone:
        """Charge work done elsewhere, once for each ref: repeating gives the first result, whatever else is asked.

        What the wallet does not cover is overrun, unless it must: then NotEnough, and nothing is booked. Raises
        LookupError for an unknown wallet, ValueError for an order that names neither or both of a price and an amount,
        an amount below zero, or an instant in the future; MonthClosed where that month is sealed.
        """
        amount = _amount(order)
        await self._make_month(order.at)
        async with self._transaction() as connection:
            drawer = await wait_for_drawer(connection, order.wallet_id)
            wallet, now = drawer.wallets[order.wallet_id], drawer.now
            if order.at > now + AHEAD_MAX:
                raise ValueError("work that was done lies in the past")
            request_id = uuid7_at(order.at)
            if not await connection.fetchval(
                statements.INSERT_OUTSIDE, order.ref, request_id, wallet.id, order.amount, order.at
            ):
                known = await connection.fetchrow(statements.OUTSIDE_KNOWN, order.ref)
                if known is None:
                    raise MonthClosed(f"{order.ref} is charged, in a month that is detached")
                return OutsideDone(known["request_id"], known["amount"], known["overrun"], False)
            if await connection.fetchval(statements.MONTH_CLOSED, order.at):
                raise MonthClosed(f"the month of {order.at:%Y-%m} is sealed")
            await read_grants(connection, drawer.wallets)
            booking, before = Booking(), wallet.available
            booking.take_back("expiry", wallet.expire(now), now)
            if wallet.id in drawer.due:
                await book_due(connection, booking, wallet, order.plan, drawer)
            closing = await self._charge(
                connection, booking, wallet, _event(order, request_id, amount), order.must_cover
            )
            await write(connection, booking, now)
            after = {"ref": order.ref, "amount": amount, "overrun": closing.overrun, "model": order.facts.model}
            after |= {"wallet": wallet.id, "available": wallet.available}
            change = Change("charge.outside", "charge", str(request_id), {"available": before}, after)
            await append(connection, by, change)
        return OutsideDone(request_id, amount, closing.overrun, True)

    async def _make_month(self, at: datetime) -> None:
        """See that there are tables for what was done then. By itself, for it locks the default partitions."""
        async with self._connection() as connection:
            if await connection.fetchval(statements.MONTH_MISSING, at):
                await connection.fetchval(statements.MAKE_MONTH, at)

    async def _charge(
        self, connection: Any, booking: Booking, wallet: Wallet, event: Settlement, must_cover: bool
    ) -> Closing:
        """The hold and its charge. Raises NotEnough."""
        available = wallet.available
        if must_cover and not event.facts.house and available < event.amount:
            raise NotEnough(available)
        hold = _hold(event, amount=0 if event.facts.house else min(event.amount, available))
        wallet.held += hold.amount
        closing = settle(wallet, hold, (), event)
        assert closing is not None  # nothing was said of this call before
        booking.charge(event, closing, wallet.currency)
        if wallet.id not in booking.wallets:
            booking.touch(wallet)
        await connection.execute(
            statements.INSERT_CLOSED_HOLD,
            hold.id,
            hold.wallet_id,
            hold.amount,
            hold.spent,
            hold.state,
            hold.price_version,
            hold.factor_ppm,
            msgspec.json.encode(hold.facts).decode(),
            self._owner,
        )
        return closing


def _amount(order: OutsideOrder) -> int:
    if (order.price is None) == (order.amount is None):
        raise ValueError("a charge is asked for by its price or by its amount, one of the two")
    if order.price is not None:
        return charge_amount(order.usage, order.price, order.factor_ppm, order.variant)
    assert order.amount is not None
    if order.amount < 0:
        raise ValueError("a charge is not below zero")
    return order.amount


def _event(order: OutsideOrder, request_id: UUID, amount: int) -> Settlement:
    return Settlement(
        request_id=request_id,
        wallet_id=order.wallet_id,
        usage=order.usage,
        source=UsageSource.REPORTED,
        amount=amount,
        price_version=order.price.version if order.price else BY_AMOUNT,
        factor_ppm=order.factor_ppm,
        outcome=Outcome.COMPLETED,
        at=order.at,
        facts=order.facts,
        variant=order.variant,
    )


def _hold(event: Settlement, *, amount: int) -> Hold:
    return Hold(
        id=event.request_id,
        wallet_id=event.wallet_id,
        amount=amount,
        spent=0,
        state=State.OPEN,
        checkpoint=0,
        usage=Usage(),
        price_version=event.price_version,
        factor_ppm=event.factor_ppm,
        facts=event.facts,
    )

"""Credits in Postgres: money that comes into a wallet, or is taken from it, by a person's or a job's decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ledger import statements
from ledger.audit import SYSTEM, Actor, Change, append
from ledger.booking import Booking
from ledger.drawer import Drawer, read_grants, wait_for_drawer, write
from ledger.ids import uuid7
from ledger.journal import CURRENCY, EXPENSE_GOODWILL, EXPENSE_PROMO, Posting
from ledger.store import CreditDone, CreditOrder, NotEnough
from ledger.vault import Vault
from ledger.wallet import PRIORITY, Grant, GrantKind, Wallet

CASH_MANUAL = "cash:manual"
"""Payments that a person entered by hand."""

_GIVEN: dict[str, tuple[GrantKind, str]] = {
    "payment": ("paid", CASH_MANUAL),
    "grant": ("promo", EXPENSE_PROMO),
    "refund": ("promo", EXPENSE_GOODWILL),
    "adjustment": ("promo", EXPENSE_GOODWILL),
}


class Credits(Vault):
    """The part of the bank that gives and takes."""

    async def credit(
        self,
        wallet_id: UUID,
        amount: int,
        kind: GrantKind,
        *,
        source: str,
        funding: str,
        expires_at: datetime | None = None,
    ) -> bool:
        """See ``store.Bank``. Raises ValueError for an amount below 1 nano-USD, LookupError for an unknown wallet."""
        if amount < 1:
            raise ValueError("a grant brings at least one nano-USD")
        async with self._transaction() as connection:
            drawer = await wait_for_drawer(connection, wallet_id)
            if await connection.fetchval(statements.SOURCE_KNOWN, wallet_id, source):
                return False
            booking, wallet, now = Booking(), drawer.wallets[wallet_id], drawer.now
            grant = Grant(uuid7(), kind, amount, PRIORITY[kind], expires_at, now, funding, source)
            _give(booking, wallet, grant, now)
            await write(connection, booking, now)
        return True

    async def adjust(self, order: CreditOrder, by: Actor = SYSTEM) -> CreditDone:
        """Give or take what a person decided, once for each source of the wallet: repeating gives the first result.

        Raises NotEnough for more than is available (what is held is never taken), LookupError for an unknown wallet,
        ValueError for an order that makes no sense: an amount of nothing, an end in the past or of money taken, a
        payment in tokens.
        """
        _check(order)
        async with self._transaction() as connection:
            drawer = await wait_for_drawer(connection, order.wallet_id)
            wallet = drawer.wallets[order.wallet_id]
            known = await connection.fetchrow(statements.CREDIT_KNOWN, order.wallet_id, order.source)
            if known is not None:
                return CreditDone(known["id"], known["entry_id"], known["amount"], False, wallet.spendable, wallet.held)
            return await self._adjust(connection, drawer, wallet, order, by)

    async def _adjust(
        self, connection: Any, drawer: Drawer, wallet: Wallet, order: CreditOrder, by: Actor
    ) -> CreditDone:
        before = _shown(wallet)
        booking, credit_id, now = Booking(), uuid7(), drawer.now
        if _takes(order):
            await read_grants(connection, drawer.wallets)
            entry_id, amount = _take(booking, wallet, order, credit_id, now), -abs(order.amount)
        else:
            entry_id, amount = _given(booking, wallet, order, credit_id, now), order.amount
        await write(connection, booking, now)
        await connection.execute(
            statements.INSERT_CREDIT,
            credit_id,
            wallet.id,
            order.kind,
            amount,
            order.reason,
            order.source,
            entry_id,
            order.expires_at,
            by.name,
            now,
        )
        after = {**_shown(wallet), "credit": credit_id, "amount": amount, "reason": order.reason}
        after |= {"source": order.source, "expires_at": order.expires_at}
        await append(connection, by, Change(f"credit.{order.kind}", "wallet", str(wallet.id), before, after))
        return CreditDone(credit_id, entry_id, amount, True, wallet.spendable, wallet.held)


def _takes(order: CreditOrder) -> bool:
    return order.kind == "deduct" or order.amount < 0


def _check(order: CreditOrder) -> None:
    if order.amount == 0 or (order.amount < 0 and order.kind != "adjustment"):
        raise ValueError(f"a {order.kind} of {order.amount} moves nothing, or the wrong way")
    if _takes(order) and order.expires_at is not None:
        raise ValueError("what is taken has no end")


def _take(booking: Booking, wallet: Wallet, order: CreditOrder, credit_id: UUID, now: datetime) -> UUID:
    """Burn it, after what has ended is gone: only money that may still be spent can be taken. The entry's id."""
    booking.take_back("expiry", wallet.expire(now), now)
    amount = abs(order.amount)
    if wallet.available < amount:
        raise NotEnough(wallet.available)
    legs = [*wallet.burn(amount), Posting(EXPENSE_GOODWILL, -amount, currency=wallet.currency)]
    booking.touch(wallet)
    entry_id = booking.enter(order.kind, f"credit:{credit_id}", now, legs)
    assert entry_id is not None  # an amount of nothing was refused
    return entry_id


def _given(booking: Booking, wallet: Wallet, order: CreditOrder, credit_id: UUID, now: datetime) -> UUID:
    kind, funding = _GIVEN[order.kind]
    if kind == "paid" and wallet.currency != CURRENCY:
        raise ValueError("tokens are not paid for: a payment goes into the wallet that holds money")
    if order.expires_at is not None and order.expires_at <= now:
        raise ValueError("money that is given must end in the future")
    # Sources of orders and of the house (plans, merges) are apart, whatever a person calls his.
    source = f"credit:{order.source}"
    grant = Grant(credit_id, kind, order.amount, PRIORITY[kind], order.expires_at, now, funding, source)
    return _give(booking, wallet, grant, now)


def _give(booking: Booking, wallet: Wallet, grant: Grant, now: datetime) -> UUID:
    # The past is due at once: the next hold books the first allowance and sets the true instant.
    booking.touch(wallet, now if grant.expires_at else None)
    return booking.fill(wallet, grant, now)


def _shown(wallet: Wallet) -> dict[str, int]:
    return {"spendable": wallet.spendable, "held": wallet.held}

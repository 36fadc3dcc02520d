"""Refunds in Postgres: what a call was charged goes back to the grants it was taken from, as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ledger import statements
from ledger.audit import SYSTEM, Actor, Change, append
from ledger.booking import Booking
from ledger.drawer import Drawer, lock_holds, read_grants, read_prior, read_refunds, wait_for_drawer, write
from ledger.hold import Hold, PriorCharge, PriorRefund, Rev, State, give_back
from ledger.ids import uuid7
from ledger.journal import REVENUE_USAGE, Posting, transfer
from ledger.store import CallRunning, RefundDone, RefundTooLarge
from ledger.vault import Vault


@dataclass(frozen=True, slots=True)
class _Refund:
    """One refund to be made. ``amount`` None: all that is left."""

    request_id: UUID
    amount: int | None
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that has ended, with what is charged and given back."""

    hold: Hold
    charges: list[PriorCharge]
    refunds: list[PriorRefund]

    @property
    def charged(self) -> int:
        """By the last word."""
        return next((each.amount for each in self.charges if each.rev is not Rev.PROVISIONAL), self.charges[0].amount)

    @property
    def refunded(self) -> int:
        return sum(each.amount for each in self.refunds)

    @property
    def booked(self) -> list[Posting]:
        """The legs of all its entries, in their order."""
        charged = [leg for charge in self.charges for leg in charge.postings]
        return charged + [leg for refund in self.refunds for leg in refund.postings]


class Refunds(Vault):
    """The part of the bank that gives back."""

    async def refund(
        self, request_id: UUID, amount: int | None, *, reason: str, source: str, by: Actor = SYSTEM
    ) -> RefundDone:
        """Give back so much of a call's charge, or what is left of it, once for each ``source`` of the call: repeating
        gives the first result. Overrun is forgiven first. What goes back to a grant that has ended ends, too.

        Raises RefundTooLarge beyond what was charged and not given back yet, also where nothing is left; CallRunning
        while the call's last word is not said; LookupError for a call that was never charged; ValueError for an amount
        below 1.
        """
        if amount is not None and amount < 1:
            raise ValueError("a refund gives back at least one nano-USD")
        async with self._transaction() as connection:
            wallet_id = await connection.fetchval(statements.WALLET_OF_CHARGE, request_id)
            if wallet_id is None:
                raise LookupError(f"call {request_id} was not charged, or its month is detached")
            drawer = await wait_for_drawer(connection, wallet_id)
            known = await connection.fetchrow(statements.REFUND_KNOWN, request_id, source)
            if known is not None:
                return RefundDone(known["id"], request_id, known["amount"], known["in_all"], False)
            call = await _read(connection, request_id)
            return await self._refund(connection, drawer, call, _Refund(request_id, amount, reason, source), by)

    async def _refund(self, connection: Any, drawer: Drawer, call: _Call, refund: _Refund, by: Actor) -> RefundDone:
        left = call.charged - call.refunded
        amount = left if refund.amount is None else refund.amount
        if not 0 < amount <= left:
            raise RefundTooLarge(left)
        await read_grants(connection, drawer.wallets, call.booked)
        booking, wallet, refund_id, now = Booking(), drawer.wallets[call.hold.wallet_id], uuid7(), drawer.now
        legs, forgiven = give_back(wallet, call.booked, amount)
        entry_id = booking.enter("refund", f"refund:{refund_id}", now, transfer(legs, REVENUE_USAGE))
        booking.touch(wallet)
        await write(connection, booking, now)
        facts = (refund_id, refund.request_id, wallet.id, amount, forgiven, refund.reason, refund.source, entry_id)
        await connection.execute(statements.INSERT_REFUND, *facts, by.name, now)
        in_all = call.refunded + amount
        after = {"refund": refund_id, "wallet": wallet.id, "amount": amount, "refunded": in_all}
        after |= {"reason": refund.reason, "source": refund.source}
        before = {"charged": call.charged, "refunded": call.refunded}
        await append(connection, by, Change("charge.refund", "charge", str(refund.request_id), before, after))
        return RefundDone(refund_id, refund.request_id, amount, in_all, True)


async def _read(connection: Any, request_id: UUID) -> _Call:
    """The call, its hold locked. Raises CallRunning."""
    hold = (await lock_holds(connection, [request_id]))[request_id]
    if hold.state is not State.SETTLED:
        raise CallRunning(f"call {request_id} has not ended: its hold is {hold.state}")
    prior = await read_prior(connection, [request_id])
    refunds = await read_refunds(connection, [request_id])
    return _Call(hold, prior[request_id], refunds.get(request_id, []))

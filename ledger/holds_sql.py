"""Holds in Postgres: the plain ones of a batch opened, and closed, by one statement; the others opened one by one, and
closed by lock, read, decide purely, write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import asyncpg
import msgspec

from ledger import statements
from ledger.booking import Booking, provisional
from ledger.drawer import Drawer, lock_holds, open_drawer, read_grants, read_prior, read_refunds, write
from ledger.hold import Hold, PriorCharge, PriorRefund, Settlement, State, expire, release, settle
from ledger.plain import hold_document, hold_replies, not_posted, settlement_document
from ledger.renewal import renew
from ledger.store import BankUnavailable, Beat, BeatReply, BudgetAsk, HoldAsk, HoldReply, HoldStatus, Unposted
from ledger.vault import Vault
from ledger.wallet import Wallet

_REAP_AT_ONCE = 200
_TOGETHER = 3  # fewer holds are opened sooner one by one
_ALL_POSTED = Unposted()
# What the bank makes good by itself before it asks once more: a wallet that is due, a budget that has no row yet.
_MENDABLE = frozenset(("due", "new"))


class Holds(Vault):
    """The part of the bank that every call passes."""

    async def open_holds(self, asks: Sequence[HoldAsk]) -> list[HoldReply]:
        """See ``store.Bank``. A wallet that is due is brought up to date and asked again."""
        async with self._connection() as connection:
            if len(asks) < _TOGETHER:
                return await self._open_each(connection, asks)
            replies = hold_replies(asks, await self._open_plain(connection, asks))
            left = [ask for ask, reply in zip(asks, replies, strict=True) if reply is None]
            if left:
                with _in_doubt("while opening what is not plain", len(left) < len(asks)):
                    rest = iter(await self._open_each(connection, left))
                return [reply or next(rest) for reply in replies]
        return [reply for reply in replies if reply]

    async def beat(self, beats: Sequence[Beat]) -> list[BeatReply]:
        """See ``store.Bank``."""
        async with self._connection() as connection:
            rows = await connection.fetch(
                statements.BEAT,
                self._owner,
                self._ttl,
                [beat.request_id for beat in beats],
                [beat.wallet_id for beat in beats],
                [beat.checkpoint for beat in beats],
                [msgspec.json.encode(beat.usage).decode() for beat in beats],
                [beat.target for beat in beats],
                [beat.price_version for beat in beats],
            )
        return [
            BeatReply(row["status"] != "lost", row["amount"], row["available"], row["status"] == "busy", row["budget"])
            for row in _in_order(rows)
        ]

    async def close(self, events: Sequence[Settlement]) -> Unposted:
        """See ``store.Bank``."""
        events = list({event.request_id: event for event in events}.values())
        left = not_posted(events, await self._close_plain(events))
        return await self._close_each(left) if left else _ALL_POSTED

    async def reap(self) -> int:
        """See ``store.Bank``."""
        return await self._sweep(statements.SILENT, statements.STILL_SILENT, _reap)

    async def release(self) -> int:
        """See ``store.Bank``."""
        return await self._sweep(statements.PAST_HORIZON, statements.STILL_PAST_HORIZON, _release)

    async def _open_plain(self, connection: Any, asks: Sequence[HoldAsk]) -> Sequence[Any]:
        document = hold_document(asks)
        try:
            rows = await connection.fetch(statements.OPEN_PLAIN, self._owner, self._ttl, self._horizon, document)
            return cast(Sequence[Any], rows)
        except asyncpg.UndefinedFunctionError:  # while the schema is a step back: each by itself
            return ()

    async def _open_each(self, connection: Any, asks: Sequence[HoldAsk]) -> list[HoldReply]:
        rows = await self._ask(connection, asks)
        left = [ask for ask, row in zip(asks, rows, strict=True) if row["status"] in _MENDABLE]
        if left:
            again = iter(await self._ask_again(connection, left))
            rows = [next(again) if row["status"] in _MENDABLE else row for row in rows]
        return [_reply(row) for row in rows]

    async def _ask(self, connection: Any, asks: Sequence[HoldAsk]) -> list[Any]:
        budgets, limits = _budgets(asks)
        rows = await connection.fetch(
            statements.OPEN,
            self._owner,
            self._ttl,
            self._horizon,
            [ask.request_id for ask in asks],
            [ask.wallet_id for ask in asks],
            [ask.wanted for ask in asks],
            [ask.minimum for ask in asks],
            [ask.price_version for ask in asks],
            [ask.factor_ppm for ask in asks],
            [msgspec.json.encode(ask.facts).decode() for ask in asks],
            budgets,
            limits,
        )
        return _in_order(rows)

    async def _ask_again(self, connection: Any, asks: Sequence[HoldAsk]) -> list[Any]:
        with _in_doubt("while booking what is due"):
            for ask in {ask.wallet_id: ask for ask in asks}.values():
                await renew(connection, ask.wallet_id, ask.plan)
            if budgets := [budget.id for ask in asks for budget in ask.budgets]:
                await connection.execute(statements.MAKE_BUDGETS, budgets)
            return await self._ask(connection, asks)

    async def _close_plain(self, events: Sequence[Settlement]) -> Sequence[Any]:
        async with self._connection() as connection:
            try:
                return cast(Sequence[Any], await connection.fetch(statements.CLOSE_PLAIN, *settlement_document(events)))
            except asyncpg.UndefinedFunctionError:  # while the schema is a step back: all of them by the rules
                return ()

    async def _close_each(self, events: Sequence[Settlement]) -> Unposted:
        async with self._transaction() as connection:
            drawer = await open_drawer(connection, {event.wallet_id for event in events})
            ready = [event for event in events if event.wallet_id in drawer.wallets]
            unknown = await self._close(connection, drawer, ready)
            left = [event for event in events if event.wallet_id not in drawer.wallets]
            known = await self._known(connection, left)
        unknown += [event for event in left if event.wallet_id not in known]
        return Unposted(
            tuple(event for event in unknown if not event.void),
            tuple(event for event in left if event.wallet_id in known),
        )

    async def _close(self, connection: Any, drawer: Drawer, events: Sequence[Settlement]) -> list[Settlement]:
        """Book these events, whose wallets are locked, but those of an unknown hold."""
        holds = await lock_holds(connection, [event.request_id for event in events])
        prior = await read_prior(connection, [hold.id for hold in holds.values() if hold.state is not State.OPEN])
        refunds = await read_refunds(connection, [key for key in prior if holds[key].state is State.SETTLED])
        # A refund gives back to grants that its charge has drawn on: those of the charges are all there are.
        burnt = [leg for charges in prior.values() for charge in charges for leg in charge.postings]
        await read_grants(connection, drawer.wallets, burnt)
        booking, unknown = Booking(), []
        for event in events:
            hold = holds.get(event.request_id)
            if hold is None or hold.wallet_id != event.wallet_id:
                unknown.append(event)
            else:
                wallet = drawer.wallets[hold.wallet_id]
                _settle(booking, wallet, hold, prior.get(hold.id, ()), refunds.get(hold.id, ()), event)
        await write(connection, booking, drawer.now)
        return unknown

    async def _known(self, connection: Any, events: Sequence[Settlement]) -> set[UUID]:
        """The wallets of these events that exist, locked or not."""
        if not events:
            return set()
        rows = await connection.fetch(statements.WALLETS_KNOWN, [event.wallet_id for event in events])
        return {row["id"] for row in rows}

    async def _sweep(self, find: str, still: str, step: Callable[[Booking, Wallet, Hold, datetime], None]) -> int:
        async with self._transaction() as connection:
            found = await connection.fetch(find, _REAP_AT_ONCE)
            if not found:
                return 0
            drawer = await open_drawer(connection, {row["wallet_id"] for row in found})
            holds = await lock_holds(connection, [row["id"] for row in found if row["wallet_id"] in drawer.wallets])
            ripe = {row["id"] for row in await connection.fetch(still, list(holds))}
            await read_grants(connection, drawer.wallets)
            booking = Booking()
            for hold in (hold for hold in holds.values() if hold.id in ripe):
                wallet = drawer.wallets[hold.wallet_id]
                step(booking, wallet, hold, drawer.now)
                booking.touch(wallet)
            await write(connection, booking, drawer.now)
        return len(ripe)


@contextmanager
def _in_doubt(when: str, doubtful: bool = True) -> Iterator[None]:
    """Neighbours of these asks have their holds already, so a failure here leaves the whole batch in doubt."""
    try:
        yield
    except Exception as failure:
        if not doubtful:
            raise
        raise BankUnavailable(f"{when}: {type(failure).__name__}: {failure}") from failure


def _budgets(asks: Sequence[HoldAsk]) -> tuple[list[str | None], list[str | None]]:
    """The budgets of each ask and their limits, as array literals in the order of the budgets' ids; nothing at all
    where no ask names one."""
    if not any(ask.budgets for ask in asks):
        return [], []
    named = [_strictest(ask.budgets) for ask in asks]
    return [_array(limits.keys()) for limits in named], [_array(limits.values()) for limits in named]


def _strictest(budgets: Iterable[BudgetAsk]) -> dict[UUID, int]:
    limits: dict[UUID, int] = {}
    for budget in sorted(budgets, key=lambda budget: (budget.id, budget.limit)):
        limits.setdefault(budget.id, budget.limit)
    return limits


def _array(values: Collection[Any]) -> str | None:
    return "{" + ",".join(map(str, values)) + "}" if values else None


def _reply(row: Any) -> HoldReply:
    # Still to be mended after it was: another grant ended in that very moment, or somebody else is booking it.
    status = HoldStatus.BUSY if row["status"] in _MENDABLE else HoldStatus(row["status"])
    return HoldReply(status, row["amount"], row["available"], row["budget"], row["headroom"])


def _in_order(rows: Iterable[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: row["n"])


def _settle(
    booking: Booking,
    wallet: Wallet,
    hold: Hold,
    prior: Sequence[PriorCharge],
    refunds: Sequence[PriorRefund],
    event: Settlement,
) -> None:
    locked = hold.locked
    closing = settle(wallet, hold, prior, event, refunds)
    if closing is not None:
        booking.charge(event, closing, wallet.currency)
        booking.touch(wallet)
        charged = sum(charge.amount for charge in prior)  # a provisional one, or none
        booking.close(hold, charged=closing.amount - charged, freed=locked)


def _reap(booking: Booking, wallet: Wallet, hold: Hold, now: datetime) -> None:
    event = provisional(hold, now)
    locked = hold.locked
    closing = expire(wallet, hold)
    booking.charge(event, closing, wallet.currency)
    booking.close(hold, charged=closing.amount, freed=locked - hold.locked)


def _release(booking: Booking, wallet: Wallet, hold: Hold, now: datetime) -> None:
    locked = hold.locked
    release(wallet, hold)
    booking.close(hold, charged=0, freed=locked)

"""What one transaction has before it: the wallets it locked, and reading and writing back what belongs to them.

Whoever books locks wallets first, then holds, then budgets, each in the order of their ids, and the head of the audit
chain last. Nobody who books for several waits for a wallet: one that somebody else has locked is left for the next
time. READ COMMITTED is enough: each rule is one row's CHECK or one unique key, and what is decided is decided under the
lock. The instant that counts is the database's, on every replica.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from ledger import statements
from ledger.booking import Booking
from ledger.hold import CallFacts, Hold, PriorCharge, PriorRefund, Rev, State
from ledger.journal import Posting
from ledger.usage import Usage
from ledger.wallet import Grant, Wallet

_usage = msgspec.json.Decoder(Usage).decode
_facts = msgspec.json.Decoder(CallFacts).decode
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Drawer:
    """The wallets this transaction has locked, which of them are due, which of these because somebody was told another
    plan, and the database's instant under the lock."""

    wallets: dict[UUID, Wallet]
    due: set[UUID]
    told: set[UUID]
    now: datetime


async def open_drawer(connection: Any, ids: Iterable[UUID]) -> Drawer:
    """Lock these wallets, but those somebody else has locked."""
    return _drawer(await connection.fetch(statements.LOCK_WALLETS, list(ids)))


async def wait_for_drawer(connection: Any, *ids: UUID) -> Drawer:
    """Lock these wallets, waiting for each; before anything else is locked. Raises LookupError where one is not
    there."""
    drawer = _drawer(await connection.fetch(statements.WAIT_FOR_WALLETS, list(ids)))
    for wallet_id in ids:
        if wallet_id not in drawer.wallets:
            raise LookupError(f"no wallet {wallet_id}")
    return drawer


def _drawer(rows: Sequence[Any]) -> Drawer:
    return Drawer(
        wallets={row["id"]: Wallet(row["id"], row["spendable"], row["held"], row["currency"]) for row in rows},
        due={row["id"] for row in rows if row["due"]},
        told={row["id"] for row in rows if row["told"]},
        now=max((row["now"] for row in rows), default=_NEVER),
    )


async def read_grants(connection: Any, wallets: Mapping[UUID, Wallet], burnt: Iterable[Posting] = ()) -> None:
    """Put the wallets' live grants into them, and those that were ``burnt``."""
    also = [leg.grant_id for leg in burnt if leg.grant_id]
    for row in await connection.fetch(statements.GRANTS, list(wallets), also):
        wallets[row["wallet_id"]].grants.append(
            Grant(
                row["id"],
                row["kind"],
                row["remaining"],
                row["priority"],
                row["expires_at"],
                row["created_at"],
                row["funding"],
                row["source"],
            )
        )


async def lock_holds(connection: Any, ids: Sequence[UUID]) -> dict[UUID, Hold]:
    """These holds as they are, locked, and after them the budgets they are counted in; their wallets are locked."""
    holds = {row["id"]: _hold(row) for row in await connection.fetch(statements.HOLDS, list(ids))}
    if budgets := {budget_id for hold in holds.values() for budget_id in hold.budget_ids}:
        await connection.execute(statements.LOCK_BUDGETS, list(budgets))
    return holds


async def read_prior(connection: Any, ids: Sequence[UUID]) -> dict[UUID, list[PriorCharge]]:
    """What is charged for these calls already, with the legs of each entry in their order."""
    if not ids:
        return {}
    charges: dict[tuple[UUID, str], tuple[Any, list[Posting]]] = {}
    for row in await connection.fetch(statements.PRIOR, list(ids)):
        _, legs = charges.setdefault((row["request_id"], row["rev"]), (row, []))
        if row["account"] is not None:
            legs.append(_leg(row))
    prior: dict[UUID, list[PriorCharge]] = {}
    for (request_id, rev), (row, legs) in charges.items():
        charge = PriorCharge(Rev(rev), row["amount"], row["overrun"], tuple(legs))
        prior.setdefault(request_id, []).append(charge)
    return prior


async def read_refunds(connection: Any, ids: Sequence[UUID]) -> dict[UUID, list[PriorRefund]]:
    """What is given back of these calls' charges already."""
    if not ids:
        return {}
    refunds: dict[UUID, tuple[Any, list[Posting]]] = {}
    for row in await connection.fetch(statements.PRIOR_REFUNDS, list(ids)):
        refunds.setdefault(row["id"], (row, []))[1].append(_leg(row))
    prior: dict[UUID, list[PriorRefund]] = {}
    for row, legs in refunds.values():
        prior.setdefault(row["request_id"], []).append(PriorRefund(row["amount"], tuple(legs)))
    return prior


async def write(connection: Any, booking: Booking, now: datetime) -> None:
    """Book what was decided. What a closed hold kept from expiring, and what was given back to a grant that has ended,
    ends here."""
    for wallet, _ in booking.wallets.values():
        booking.take_back("expiry", wallet.expire(now), now)
    if booking.wallets:
        await connection.execute(statements.WRITE, booking.document().decode(), list(booking.holds))
    if booking.budgets:
        moves = list(booking.budgets.values())
        spent, held = [move.spent for move in moves], [move.held for move in moves]
        await connection.execute(statements.MOVE_BUDGETS, list(booking.budgets), spent, held)


def _leg(row: Any) -> Posting:
    return Posting(row["account"], row["posted"], row["wallet_id"], row["grant_id"], row["currency"])


def _hold(row: Any) -> Hold:
    return Hold(
        id=row["id"],
        wallet_id=row["wallet_id"],
        amount=row["amount"],
        spent=row["spent"],
        state=State(row["state"]),
        checkpoint=row["checkpoint"],
        usage=_usage(row["usage"]),
        price_version=row["price_version"],
        factor_ppm=row["factor_ppm"],
        facts=_facts(row["facts"]),
        budget_ids=tuple(row["budget_ids"] or ()),
    )

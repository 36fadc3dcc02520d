"""Merges in Postgres: what two wallets of one person hold comes together in one of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger import statements
from ledger.audit import SYSTEM, Actor, Change, append
from ledger.booking import Booking
from ledger.drawer import read_grants, wait_for_drawer, write
from ledger.ids import uuid7
from ledger.store import BankBusy, WalletBusy
from ledger.vault import Vault
from ledger.wallet import Wallet, token_wallet_id

_FOLLOWED_AT_ONCE = 100


class Merges(Vault):
    """The part of the bank that brings wallets together."""

    async def merge(self, source_wallet: UUID, target_wallet: UUID, *, by: Actor = SYSTEM) -> int:
        """Move every live grant of one wallet into another, and those of its token wallet into the other's; what was
        moved of the money, in nano-USD. What comes into the first one later (a late refund, say) follows.

        Raises WalletBusy while the first one holds anything, LookupError for an unknown wallet, ValueError where the
        two are one, or the first one was merged into a third. Repeating moves nothing.
        """
        async with self._transaction() as connection:
            target = await connection.fetchval(statements.MERGED_INTO, target_wallet) or target_wallet
            pairs = [(source_wallet, target), *await _token_pairs(connection, source_wallet, target)]
            moved = await _merge(connection, pairs, by)
        return moved[source_wallet]

    async def follow_merges(self) -> int:
        """Move on what came into merged wallets since; how many were found."""
        async with self._connection() as connection:
            found = await connection.fetch(statements.LEFT_BEHIND, _FOLLOWED_AT_ONCE)
        for row in found:
            with suppress(WalletBusy):  # the next time, then
                async with self._transaction() as connection:
                    target = await connection.fetchval(statements.MERGED_INTO, row["id"])
                    await _merge(connection, [(row["id"], target)], SYSTEM)
        return len(found)


async def _token_pairs(connection: Any, source: UUID, target: UUID) -> list[tuple[UUID, UUID]]:
    """The token wallets of both, where the first one has any; the other's is opened for it."""
    pair = token_wallet_id(source), token_wallet_id(target)
    currency = await connection.fetchval(statements.CURRENCY_OF, pair[0])
    if currency is None:
        return []
    await connection.execute(statements.OPEN_WALLET, pair[1], currency)
    return [pair]


async def _merge(connection: Any, pairs: list[tuple[UUID, UUID]], by: Actor) -> dict[UUID, int]:
    """Everything of each pair's first wallet into its second; how much, by the first one's id."""
    drawer = await wait_for_drawer(connection, *(wallet_id for pair in pairs for wallet_id in pair))
    await _check(connection, pairs)
    await read_grants(connection, drawer.wallets)
    booking, moved = Booking(), {}
    credits: list[tuple[Any, ...]] = []
    changes: list[Change] = []
    for source, target in ((drawer.wallets[one], drawer.wallets[other]) for one, other in pairs):
        before = {"source": source.spendable, "target": target.spendable}
        rows = _pour(booking, source, target, by, drawer.now)
        moved[source.id] = rows[-1][3] if rows else 0
        credits += rows
        after = {"source": source.spendable, "target": target.spendable, "moved": moved[source.id], "into": target.id}
        if rows or not changes:
            changes.append(Change("wallet.merge", "wallet", str(source.id), before, after))
    await write(connection, booking, drawer.now)
    await connection.executemany(statements.INSERT_CREDIT, credits)
    await connection.execute(statements.MARK_MERGED, [one for one, _ in pairs], [other for _, other in pairs])
    await append(connection, by, *changes)
    return moved


async def _check(connection: Any, pairs: list[tuple[UUID, UUID]]) -> None:
    """Under the locks: may the first of each pair go into the second?"""
    rows = await connection.fetch(statements.MERGES_OF, [wallet_id for pair in pairs for wallet_id in pair])
    wallets = {row["id"]: row for row in rows}
    for source, target in pairs:
        if source == target:
            raise ValueError(f"wallet {source} cannot be merged into itself")
        if wallets[source]["currency"] != wallets[target]["currency"]:
            raise ValueError(f"wallets {source} and {target} hold different currencies")
        if wallets[target]["merged_into"] is not None:
            raise BankBusy(f"wallet {target} is being merged, too")
        if await connection.fetchval(statements.MERGED_INTO, source) not in (None, target):
            raise ValueError(f"wallet {source} was merged into another already")


def _pour(booking: Booking, source: Wallet, target: Wallet, by: Actor, now: datetime) -> list[tuple[Any, ...]]:
    """Decide one pair; the rows of its credits, the one of the target last. None where nothing moves."""
    if source.held:
        raise WalletBusy(f"wallet {source.id} holds {source.held} for calls under way")
    booking.take_back("expiry", source.expire(now), now)
    merge_id = uuid7()
    legs, made = source.pour(target, uuid7, f"merge:{merge_id}")
    for grant in made:
        booking.make(target, grant, now)
    booking.touch(source)
    # What came may end before anything the target had: the next hold sets the true instant.
    booking.touch(target, now if any(grant.expires_at for grant in made) else None)
    entry_id = booking.enter("merge", f"merge:{merge_id}", now, legs)
    amount, ref = sum(grant.remaining for grant in made), f"merge:{merge_id}"
    return [
        (uuid7(), wallet.id, "merge", change, "", ref, entry_id, None, by.name, now)
        for wallet, change in ((source, -amount), (target, amount))
        if change
    ]

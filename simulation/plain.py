"""The plain ones of a batch over dictionaries: what ``OPEN_PLAIN`` and the database's ``close_plain`` do.

``tests/contracts/test_bank.py`` holds them against the database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from ledger.hold import Settlement
from ledger.journal import REVENUE_USAGE, wallet_account
from simulation.tables import NEVER, ChargeRow, EntryRow, GrantRow, HoldRow, PostingRow, Tables


class _Asked(msgspec.Struct):
    n: int
    id: UUID
    wallet: UUID
    wanted: int
    needed: int
    locks: int
    version: int
    factor: int
    facts: msgspec.Raw


_asked = msgspec.json.Decoder(list[_Asked]).decode
_events = msgspec.json.Decoder(list[Settlement]).decode


def open_plain(tables: Tables, owner: str, ttl: timedelta, horizon: timedelta, document: str) -> list[Any]:
    """See ``statements.OPEN_PLAIN``."""
    instant, asks = tables.clock(), _asked(document)
    needed: defaultdict[UUID, int] = defaultdict(int)
    for ask in asks:
        needed[ask.wallet] += ask.needed
    free = {wallet: _free(tables, wallet, instant) for wallet in needed}
    plain = {wallet: has for wallet, has in free.items() if has is not None and needed[wallet] <= has}
    return [
        (ask.n, plain.get(ask.wallet), ask.wallet in plain and _opened(tables, ask, owner, instant, ttl, horizon))
        for ask in sorted(asks, key=lambda ask: ask.n)
    ]


def _free(tables: Tables, wallet_id: UUID, instant: datetime) -> int | None:
    wallet = tables.wallets.get(wallet_id)
    if wallet is None or wallet_id in tables.locked or wallet.state != "active" or wallet.due_at <= instant:
        return None
    return wallet.spendable - wallet.held


def _opened(tables: Tables, ask: _Asked, owner: str, instant: datetime, ttl: timedelta, horizon: timedelta) -> bool:
    if ask.id in tables.holds:
        return False
    facts = bytes(ask.facts).decode()
    row = HoldRow(
        ask.id, ask.wallet, ask.wanted, ask.version, ask.factor, facts, owner, instant + ttl, instant + horizon, instant
    )
    tables.add(tables.holds, ask.id, row)
    wallet = tables.wallets[ask.wallet]
    tables.change(wallet, held=wallet.held + ask.locks)
    return True


def close_plain(tables: Tables, document: str, entries: str) -> list[Any]:
    """See the database's function of this name."""
    ids = [UUID(word) for word in entries.strip("{}").split(",")]
    told: defaultdict[UUID, list[tuple[int, Settlement]]] = defaultdict(list)
    for place, event in enumerate(_events(document), 1):
        told[event.wallet_id].append((place, event))
    posted: list[Any] = []
    for wallet_id in sorted(told):
        grant = _pays(tables, wallet_id, [event for _, event in told[wallet_id]])
        if grant is not None:
            posted += [(_posted(tables, grant, event, place, ids[place - 1]),) for place, event in told[wallet_id]]
    return posted


def _pays(tables: Tables, wallet_id: UUID, events: Sequence[Settlement]) -> GrantRow | None:
    """The grant that covers all of them, where they are plain."""
    live = [row for row in tables.grants_of[wallet_id] if row.remaining > 0]
    if wallet_id in tables.locked or any((row.expires_at or NEVER) <= tables.clock() for row in live):
        return None
    first = min(live, key=lambda row: (row.priority, row.expires_at or NEVER, row.created_at), default=None)
    if first is None or not all(_is_plain(tables.holds.get(event.request_id), event) for event in events):
        return None
    wallet, beyond = tables.wallets[wallet_id], 0
    for event in events:
        beyond += max(0, event.amount - tables.holds[event.request_id].amount)
    covered = first.remaining >= sum(event.amount for event in events) and beyond <= wallet.spendable - wallet.held
    return first if covered else None


def _is_plain(hold: HoldRow | None, event: Settlement) -> bool:
    return (
        hold is not None
        and (hold.wallet_id, hold.state, hold.budget_ids) == (event.wallet_id, "open", None)
        and not (hold.house or event.facts.house or event.void)
        and event.amount >= 0
    )


def _posted(tables: Tables, grant: GrantRow, event: Settlement, place: int, entry_id: UUID) -> int:
    wallet, hold = tables.wallets[event.wallet_id], tables.holds[event.request_id]
    charge = ChargeRow(
        event.request_id, "final", event.wallet_id, event.facts.user_id, event.facts.model, False, event.usage.parts(),
        event.source, event.price_version, event.factor_ppm, event.variant, event.amount, 0, event.outcome,
        entry_id if event.amount else None, event.at, wallet.currency,
    )  # fmt: skip
    tables.add(tables.charges, (charge.request_id, charge.rev), charge, tables.charges_of[charge.request_id])
    if event.amount:
        entry = EntryRow(entry_id, "charge", f"charge:{event.request_id}:final", event.at)
        tables.add_entries([entry], _legs(wallet.currency, grant, event.amount, entry_id))
        tables.change(grant, remaining=grant.remaining - event.amount)
    tables.change(wallet, spendable=wallet.spendable - event.amount, held=wallet.held - hold.amount)
    tables.change(hold, state="settled", spent=event.amount)
    return place


def _legs(currency: str, grant: GrantRow, amount: int, entry_id: UUID) -> list[PostingRow]:
    account = wallet_account(grant.wallet_id, grant.kind)
    return [
        PostingRow(entry_id, 0, account, amount, grant.wallet_id, grant.id, currency),
        PostingRow(entry_id, 1, REVENUE_USAGE, -amount, None, None, currency),
    ]

"""``open_holds`` and ``beat_holds``, the two functions of the database that every call passes, over dictionaries.

Line by line what ``migrations/`` has in PL/pgSQL; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

import msgspec

from simulation.tables import HoldRow, Tables, WalletRow

Row = dict[str, Any]
_COUNTED_IN = "USD"
_WITHOUT_END = 2**53  # what the house has, for its calls are bounded by their budgets alone


class _Asked:
    """One ask as a row of the unnested arrays; the budgets come as array literals."""

    __slots__ = "budgets", "factor", "facts", "house", "id", "limits", "minimum", "place", "version", "wallet", "wanted"

    def __init__(self, place: int, columns: tuple[Any, ...]) -> None:
        self.place = place
        self.id, self.wallet, self.wanted, self.minimum, self.version, self.factor, self.facts = columns[:7]
        self.budgets = [UUID(each) for each in _elements(columns[7])]
        self.limits = [int(each) for each in _elements(columns[8])]
        self.house = bool(msgspec.json.decode(self.facts).get("house"))


def open_holds(tables: Tables, owner: str, ttl: timedelta, horizon: timedelta, *columns: Sequence[Any]) -> list[Row]:
    """See the database's function of this name."""
    instant = tables.clock()
    asks = [_Asked(place, row) for place, row in enumerate(zip_longest(*columns), 1)]
    ordered = sorted(asks, key=lambda ask: (ask.wallet, ask.place))
    return [_open(tables, ask, owner, instant, instant + ttl, instant + horizon) for ask in ordered]


def _open(
    tables: Tables, ask: _Asked, owner: str, instant: datetime, expires_at: datetime, release_at: datetime
) -> Row:
    wallet = tables.wallets.get(ask.wallet)
    if wallet is None or ask.wallet in tables.locked:
        return _row(ask, "unknown" if wallet is None else "busy", 0, 0)
    free = wallet.spendable - wallet.held
    headroom = _WITHOUT_END if ask.house else free
    if wallet.state != "active":
        return _row(ask, wallet.state, free, headroom)
    if wallet.due_at <= instant:
        return _row(ask, "due", free, headroom)
    if free < ask.minimum and not ask.house:
        return _row(ask, "poor", free, headroom)
    counted = bool(ask.budgets) and wallet.currency == _COUNTED_IN
    if counted:
        refused, headroom = _within_budgets(tables, ask, free)
        if refused is not None:
            return refused
    if ask.id in tables.holds:
        return _row(ask, "duplicate", free, headroom)
    return _opened(tables, ask, wallet, headroom, counted, owner, instant, expires_at, release_at)


def _within_budgets(tables: Tables, ask: _Asked, free: int) -> tuple[Row | None, int]:
    """The refusal by a budget, or how much may be held at most."""
    headroom, tightest = _WITHOUT_END if ask.house else free, None
    for budget_id, limit in zip(ask.budgets, ask.limits, strict=True):
        budget = tables.budgets.get(budget_id)
        if budget is None or budget_id in tables.locked:
            return _row(ask, "new" if budget is None else "busy", free, headroom, tightest), 0
        left = limit - budget.spent - budget.held
        if tightest is None or left < headroom:
            headroom, tightest = left, budget_id
    if headroom < (max(ask.minimum, 1) if ask.house else ask.minimum):
        return _row(ask, "capped", max(headroom, 0), headroom, tightest), 0
    return None, max(headroom if ask.house else min(headroom, free), 0)


def _opened(
    tables: Tables,
    ask: _Asked,
    wallet: WalletRow,
    headroom: int,
    counted: bool,
    owner: str,
    instant: datetime,
    expires_at: datetime,
    release_at: datetime,
) -> Row:
    amount = min(ask.wanted, headroom)
    hold = HoldRow(
        ask.id,
        ask.wallet,
        amount,
        ask.version,
        ask.factor,
        ask.facts,
        owner,
        expires_at,
        release_at,
        instant,
        ask.budgets if counted else None,
        ask.limits if counted else None,
    )
    tables.add(tables.holds, ask.id, hold)
    _lock_up(tables, wallet, hold, amount)
    return _row(ask, "ok", wallet.spendable - wallet.held, headroom - amount, amount=amount)


def beat_holds(tables: Tables, owner: str, ttl: timedelta, *columns: Sequence[Any]) -> list[Row]:
    """See the database's function of this name."""
    instant = tables.clock()
    beats = [(place, *row) for place, row in enumerate(zip(*columns, strict=True), 1)]
    return [_beat(tables, owner, instant, instant + ttl, *beat) for beat in sorted(beats, key=lambda beat: beat[1])]


def _beat(
    tables: Tables,
    owner: str,
    instant: datetime,
    expires_at: datetime,
    place: int,
    hold_id: UUID,
    wallet_id: UUID,
    checkpoint: int,
    usage: str,
    target: int,
    version: int,
) -> Row:
    hold = tables.holds.get(hold_id)
    if hold is None or (hold.owner, hold.wallet_id, hold.state) != (owner, wallet_id, "open"):
        return {"n": place, "status": "lost", "amount": 0, "available": 0, "budget": None}
    status, more, available, budget = "ok", 0, 0, None
    if target > hold.amount:
        status, more, available, budget = _extension(tables, hold, target)
    ahead = checkpoint >= hold.checkpoint
    tables.change(
        hold,
        amount=hold.amount + more,
        checkpoint=max(hold.checkpoint, checkpoint),
        usage=usage if ahead else hold.usage,
        price_version=(version or hold.price_version) if ahead else hold.price_version,
        expires_at=expires_at,
    )
    return {"n": place, "status": status, "amount": hold.amount, "available": available, "budget": budget}


def _extension(tables: Tables, hold: HoldRow, target: int) -> tuple[str, int, int, UUID | None]:
    """Status, by how much the hold grows, what is available beside it, and the budget that kept it smaller."""
    wallet = tables.wallets.get(hold.wallet_id)
    if wallet is None or hold.wallet_id in tables.locked:
        return "busy", 0, 0, None
    has = _WITHOUT_END if hold.house else wallet.spendable - wallet.held
    available = has if wallet.state == "active" else 0
    more, named = min(target - hold.amount, available), None
    for budget_id, limit in zip(hold.budget_ids or (), hold.budget_limits or (), strict=True):
        if more == 0:
            break
        if budget_id in tables.locked:
            return "busy", 0, 0, None
        budget = tables.budgets[budget_id]
        left = limit - budget.spent - budget.held
        if left < more:
            more, named = max(left, 0), budget_id
    if more > 0:
        _lock_up(tables, wallet, hold, more)
    return "ok", more, max(available - more, 0) if named is None else 0, named


def _lock_up(tables: Tables, wallet: WalletRow, hold: HoldRow, amount: int) -> None:
    if amount > 0:
        if not hold.house:
            tables.change(wallet, held=wallet.held + amount)
        for budget_id in hold.budget_ids or ():
            budget = tables.budgets[budget_id]
            tables.change(budget, held=budget.held + amount)


def _row(
    ask: _Asked, status: str, available: int, headroom: int, budget: UUID | None = None, *, amount: int = 0
) -> Row:
    return {
        "n": ask.place,
        "status": status,
        "amount": amount,
        "available": available,
        "headroom": headroom,
        "budget": budget,
    }


def _elements(literal: str | None) -> list[str]:
    """The elements of an array literal of plain words."""
    return literal.strip("{}").split(",") if literal else []

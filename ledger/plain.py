"""The plain ones of a batch, which the database opens or posts all at once. Pure.

Plain holds: their wallets have all that is asked of them together, and no budget is in question. Plain settlements: see
``close_plain`` in ``migrations/``. What is not plain is left, and decided one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from msgspec import Struct

from ledger.hold import CallFacts, Settlement
from ledger.ids import uuid7_words
from ledger.store import HoldAsk, HoldReply, HoldStatus

_WITHOUT_END = 2**53  # what the house has, for its calls are bounded by their budgets alone
_encode = msgspec.json.encode


class _Asked(Struct):
    """An ask as ``statements.OPEN_PLAIN`` reads it: ``needed`` of its wallet, which it ``locks`` when it is opened."""

    n: int
    id: UUID
    wallet: UUID
    wanted: int
    needed: int
    locks: int
    version: int
    factor: int
    facts: CallFacts


def hold_document(asks: Sequence[HoldAsk]) -> str:
    """Those of the asks that may be plain. Of a call that is asked for twice, the first."""
    rows = {
        ask.request_id: _Asked(
            place,
            ask.request_id,
            ask.wallet_id,
            ask.wanted,
            0 if ask.facts.house else max(ask.wanted, ask.minimum),
            0 if ask.facts.house else ask.wanted,
            ask.price_version,
            ask.factor_ppm,
            ask.facts,
        )
        for place, ask in reversed(tuple(enumerate(asks)))  # of two, the first is written last
        if not ask.budgets
    }
    return _encode(list(rows.values())).decode()


def hold_replies(asks: Sequence[HoldAsk], rows: Iterable[tuple[int, int | None, bool]]) -> list[HoldReply | None]:
    """The reply to each ask; None for what was not plain. ``rows``: place, what the wallet had free (None: not plain),
    whether a hold was opened; in the order of the places."""
    replies: list[HoldReply | None] = [None] * len(asks)
    locked: dict[UUID, int] = {}
    for place, free, fresh in rows:
        if free is not None:
            ask = asks[place]
            before = locked.get(ask.wallet_id, 0)
            amount = ask.wanted if fresh else 0
            locks = locked[ask.wallet_id] = before if ask.facts.house else before + amount
            available = free - locks
            headroom = _WITHOUT_END - amount if ask.facts.house else available
            status = HoldStatus.OK if fresh else HoldStatus.DUPLICATE
            replies[place] = HoldReply(status, amount, available, None, headroom)
    return replies


def settlement_document(events: Sequence[Settlement]) -> tuple[str, str]:
    """The events, and an entry's id for each of them as an array literal: the arguments of
    ``statements.CLOSE_PLAIN``."""
    return _encode(events).decode(), "{" + ",".join(uuid7_words(len(events))) + "}"


def not_posted(events: Sequence[Settlement], rows: Iterable[Sequence[int]]) -> list[Settlement]:
    """The events whose places, counted from one, are not among these rows."""
    posted = {row[0] for row in rows}
    return [event for place, event in enumerate(events, 1) if place not in posted]

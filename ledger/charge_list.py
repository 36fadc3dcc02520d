"""Charges as somebody looks at them: filtered lists, newest first, a page at a time; and one call's charge with all of
its entries.

A list shows each call once, by its last word. Since a call's id says when it was admitted, ids are the order, the place
of a page and the bounds of time all at once, and each filter has an index that ends in the id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import floor
from ledger.reading import fetch, reader

PAGE_MAX = 1000

_COLUMNS = """
    c.request_id, c.rev, c.at, c.user_id, c.wallet_id, c.key_id, c.tier, c.model, c.route, c.upstream, c.task,
    c.chat_id, c.message_id, c.streamed, c.house, c.usage::text AS usage, c.usage_source, c.problems, c.price_version,
    c.factor_ppm, c.variant, c.currency, c.amount, c.overrun, c.outcome, c.entry_id, c.ttft_ms, c.duration_ms
"""
_REFUNDED = "(SELECT coalesce(sum(r.amount), 0) FROM refunds r WHERE r.request_id = c.request_id)::bigint AS refunded"
# A scalar subquery is asked for the few provisional charges of a page alone; EXISTS might be hashed over all charges.
_SUPERSEDED = """
    (c.rev = 'provisional' AND (SELECT f.rev FROM charges f
                                WHERE f.request_id = c.request_id AND f.rev <> 'provisional' LIMIT 1) IS NOT NULL)
    AS superseded
"""
_SPARE = 10  # rows beyond a page, in the place of those that turn out to be superseded

# What is usual has no index, since a walk from the newest charge back finds it soon; what is rare has a partial one,
# which the planner may use only where the query itself says that it asks for something rare.
_RARE = {
    "route": "chat.completions",
    "task": "",
    "chat_id": "",
    "message_id": "",
    "outcome": "completed",
    "usage_source": "reported",
}
_LARGE = 100_000_000

_LEGS = """
    SELECT entry_id, line, account, amount, currency, wallet_id, grant_id FROM postings
    WHERE entry_id = ANY ($1::uuid[]) ORDER BY entry_id, line
"""
_CALL = f"SELECT {_COLUMNS}, {_REFUNDED} FROM charges c WHERE c.request_id = $1"
_ENTRIES = "SELECT id, kind, ref, booked_at FROM journal_entries WHERE id = ANY ($1::uuid[]) ORDER BY id"
_REFUNDS = """
    SELECT id, at, amount, forgiven, reason, source, actor, entry_id FROM refunds WHERE request_id = $1 ORDER BY id
"""

_WORDS = ("provisional", "final", "late")


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Which charges; None: any. ``users``: of one of them (a user and those merged into it). ``since`` and ``until``
    bound when the call was admitted; ``min_amount`` is in units of the charge's currency."""

    users: Sequence[UUID] = ()
    key_id: UUID | None = None
    model: str | None = None
    tier: str | None = None
    task: str | None = None
    route: str | None = None
    chat_id: str | None = None
    message_id: str | None = None
    outcome: str | None = None
    usage_source: str | None = None
    currency: str | None = None
    min_amount: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedCharge:
    """One word on a call's charge. ``refunded``: what was given back of the call so far. Units of the currency."""

    request_id: UUID
    rev: str
    at: datetime
    user_id: UUID
    wallet_id: UUID
    key_id: UUID | None
    tier: str
    model: str
    route: str
    upstream: str
    task: str
    chat_id: str
    message_id: str
    streamed: bool
    house: bool
    usage: dict[str, int]
    usage_source: str
    problems: list[str]
    price_version: int
    factor_ppm: int
    variant: str
    currency: str
    amount: int
    overrun: int
    outcome: str
    entry_id: UUID | None
    ttft_ms: int | None
    duration_ms: int | None
    refunded: int = 0


@dataclass(frozen=True, slots=True)
class ShownLeg:
    """One leg of an entry: debits are positive."""

    account: str
    amount: int
    currency: str
    wallet_id: UUID | None
    grant_id: UUID | None


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry of the journal with its legs."""

    id: UUID
    kind: str
    ref: str
    booked_at: datetime
    legs: tuple[ShownLeg, ...]


@dataclass(frozen=True, slots=True)
class ShownRefund:
    """One refund of a call; ``forgiven`` is the part of it that had never been paid."""

    id: UUID
    at: datetime
    amount: int
    forgiven: int
    reason: str
    source: str
    actor: str
    entry_id: UUID


@dataclass(frozen=True, slots=True)
class WholeCharge:
    """Everything the ledger has of one call: each word on its charge (the last one last), entries, refunds."""

    words: tuple[ListedCharge, ...]
    entries: tuple[ShownEntry, ...]
    refunds: tuple[ShownRefund, ...]

    @property
    def last(self) -> ListedCharge:
        return self.words[-1]


async def charges(engine: AsyncEngine, wanted: ChargeFilter, *, before: UUID | None, limit: int) -> list[ListedCharge]:
    """At most ``limit`` (of 1000) charges of calls admitted before the one named, newest first. Raises what the driver
    raises."""
    found: list[ListedCharge] = []
    limit, spare = min(limit, PAGE_MAX), _SPARE
    while len(found) < limit:
        asked = limit - len(found) + spare
        query, args = listing(wanted, before, asked)
        rows = await fetch(engine, query, *args)
        found += [_listed(row) for row in rows if not row["superseded"]]
        if len(rows) < asked:
            break
        before, spare = rows[-1]["request_id"], min(spare * 4, PAGE_MAX)
    return found[:limit]


async def whole_charge(engine: AsyncEngine, request_id: UUID) -> WholeCharge | None:
    """One call's charge; None for a call that was never charged."""
    async with reader(engine) as driver:
        words = sorted(map(_listed, await driver.fetch(_CALL, request_id)), key=lambda word: _WORDS.index(word.rev))
        if not words:
            return None
        refunds = [ShownRefund(*row) for row in await driver.fetch(_REFUNDS, request_id)]
        ids = [word.entry_id for word in words if word.entry_id is not None]
        ids += [refund.entry_id for refund in refunds]
        legs: dict[UUID, list[ShownLeg]] = {}
        for row in await driver.fetch(_LEGS, ids):
            legs.setdefault(row["entry_id"], []).append(
                ShownLeg(row["account"], row["amount"], row["currency"], row["wallet_id"], row["grant_id"])
            )
        entries = [
            ShownEntry(row["id"], row["kind"], row["ref"], row["booked_at"], tuple(legs.get(row["id"], ())))
            for row in await driver.fetch(_ENTRIES, ids)
        ]
    return WholeCharge(tuple(words), tuple(entries), tuple(refunds))


def listing(wanted: ChargeFilter, before: UUID | None, limit: int) -> tuple[str, list[Any]]:
    """The query of a page and its arguments: every word on the charges, a call's last one first. Each user is a branch
    of its own, so that each is read by index."""
    args: list[Any] = []
    conditions = list(_conditions(wanted, before, args))
    page = f"ORDER BY c.request_id DESC, c.rev LIMIT {limit}"
    branches = []
    for user in wanted.users or (None,):
        own = conditions if user is None else [f"c.user_id = {_place(args, user)}", *conditions]
        branches.append(f"(SELECT * FROM charges c WHERE {' AND '.join(own) or 'true'} {page})")
    source = " UNION ALL ".join(branches)
    return f"SELECT {_COLUMNS}, {_REFUNDED}, {_SUPERSEDED} FROM ({source}) AS c {page}", args


def _conditions(wanted: ChargeFilter, before: UUID | None, args: list[Any]) -> Iterator[str]:
    for column in (
        "key_id",
        "model",
        "tier",
        "task",
        "route",
        "chat_id",
        "message_id",
        "outcome",
        "usage_source",
        "currency",
    ):
        value = getattr(wanted, column)
        if value is not None:
            yield f"c.{column} = {_place(args, value)}"
            if column in _RARE and value != _RARE[column]:
                yield f"c.{column} <> '{_RARE[column]}'"
    if wanted.min_amount is not None:
        yield f"c.amount >= {_place(args, wanted.min_amount)}"
        if wanted.min_amount >= _LARGE:
            yield f"c.amount >= {_LARGE}"
    if before is not None:
        yield f"c.request_id < {_place(args, before)}"
    if wanted.since is not None:
        yield f"c.request_id >= {_place(args, floor(wanted.since))}"
    if wanted.until is not None:
        yield f"c.request_id < {_place(args, floor(wanted.until))}"


def _place(args: list[Any], value: Any) -> str:
    args.append(value)
    return f"${len(args)}"


def _listed(row: Any) -> ListedCharge:
    told = {name: row[name] for name in ListedCharge.__slots__}
    return ListedCharge(**{**told, "usage": msgspec.json.decode(row["usage"])})

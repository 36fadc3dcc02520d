"""What one person used, from its charges alone: in all, or by day, model, task or chat, also of one chat or one answer.

Whoever paid is told apart: what was charged to the person, in money or in tokens, and what the house bore. A person is
given by all of its ids, so that no other's charge is ever in a sum, whatever chat or answer is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import LAST, floor
from ledger.reading import fetch
from ledger.spans import steps
from ledger.usage import INPUT_KINDS, OUTPUT_KINDS
from ledger.usage_read import tokens_of

Group = Literal["day", "model", "task", "chat"]
GROUPS: tuple[Group, ...] = get_args(Group)
PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class OwnFilter:
    """Calls of these ids that were admitted from ``since`` on and before ``until``; of one chat or one answer, where
    those are named."""

    users: Sequence[UUID]
    since: datetime
    until: datetime
    chat_id: str | None = None
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class OwnUsage:
    """``key`` is what the row is of (None: of everything): a day, or the name of a model, task or chat. ``last`` is
    the newest call. ``amount`` and ``house_amount`` are nano-USD, ``amount_tokens`` what an allowance in tokens paid.
    """

    key: datetime | str | None
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: int
    amount_tokens: int
    house_amount: int
    last: UUID


_NOTHING = OwnUsage(None, 0, 0, 0, 0, 0, 0, 0, UUID(int=0))

_SUMS = f"""
    count(*) AS calls, {tokens_of(*INPUT_KINDS)} AS input_tokens, {tokens_of("cache_read")} AS cached_tokens,
    {tokens_of(*OUTPUT_KINDS)} AS output_tokens,
    coalesce(sum(amount) FILTER (WHERE currency = 'USD' AND NOT house), 0)::bigint AS amount,
    coalesce(sum(amount) FILTER (WHERE currency = 'TOK'), 0)::bigint AS amount_tokens,
    coalesce(sum(amount) FILTER (WHERE house), 0)::bigint AS house_amount,
    (max(request_id::text))::uuid AS last
"""
# A scalar subquery is asked for the few provisional charges alone.
_WORD = """
    (rev <> 'provisional' OR (SELECT f.rev FROM charges f
                              WHERE f.request_id = c.request_id AND f.rev <> 'provisional' LIMIT 1) IS NULL)
"""
_KEYS: dict[Group, str] = {"day": "width_bucket(request_id, $4::uuid[])", "model": "model", "task": "task"}


async def own_usage(
    engine: AsyncEngine, wanted: OwnFilter, group: Group | None, *, after: str | UUID | None = None, limit: int = 1000
) -> list[OwnUsage]:
    """At most ``limit`` rows from behind the key ``after``: by day (``2026-12-01``), model and task in their order; by
    chat from the one that was used last back (``after`` is then its newest call). In all, one row. Raises what the
    driver raises."""
    limit = min(limit, PAGE_MAX)
    if group == "chat":
        return await _by_chat(engine, wanted, after if isinstance(after, UUID) else LAST, limit)
    days = steps("day", wanted.since, wanted.until) if group == "day" else []
    args: list[Any] = [list(wanted.users), floor(wanted.since), floor(wanted.until), [floor(day) for day in days]]
    key = "NULL::text" if group is None else f"({_KEYS[group]})::text"
    behind = ""
    if group is not None and after is not None:
        # A day is counted from the first of the span; one beyond its end has nothing behind it.
        args.append(sum(f"{day:%Y-%m-%d}" <= str(after) for day in days) if group == "day" else str(after))
        behind = f"AND {_KEYS[group]} > ${len(args)}"
    source = f"FROM charges c WHERE {_conditions(wanted, args)} AND cardinality($4::uuid[]) >= 0 {behind}"
    order = {"day": "GROUP BY 1 ORDER BY (min(request_id::text))", None: ""}.get(group, "GROUP BY 1 ORDER BY 1")
    rows = await fetch(engine, f"SELECT {key} AS key, {_SUMS} {source} {order} LIMIT {limit}", *args)
    return [_row(row, days) if row["calls"] else _NOTHING for row in rows]


async def _by_chat(engine: AsyncEngine, wanted: OwnFilter, before: UUID, limit: int) -> list[OwnUsage]:
    args: list[Any] = [list(wanted.users), floor(wanted.since), floor(wanted.until)]
    source = f"FROM charges c WHERE {_conditions(wanted, args)} AND chat_id <> ''"
    args.append(before)
    rows = await fetch(
        engine,
        f"SELECT chat_id AS key, {_SUMS} {source} GROUP BY 1 HAVING max(request_id::text) < ${len(args)}::uuid::text "
        f"ORDER BY max(request_id::text) DESC LIMIT {limit}",
        *args,
    )
    return [_row(row, []) for row in rows]


def _conditions(wanted: OwnFilter, args: list[Any]) -> str:
    """What every row must be; the first three arguments are the ids and the span."""
    found = ["user_id = ANY ($1::uuid[])", "request_id >= $2", "request_id < $3", _WORD]
    for column, value in (("chat_id", wanted.chat_id), ("message_id", wanted.message_id)):
        if value is not None:
            args.append(value)
            # Said twice, so that the index of those that have one may be used.
            found.append(f"{column} = ${len(args)} AND {column} <> ''")
    return " AND ".join(found)


def _row(row: Any, days: Sequence[datetime]) -> OwnUsage:
    told = {name: row[name] for name in OwnUsage.__slots__}
    return OwnUsage(**told | {"key": days[int(row["key"]) - 1] if days else row["key"]})

"""What a user has used: by hour from the charges, by day and month from the roll-ups.

A user is given by all of its ids: its own and those of the identities merged into it. Days and months are UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import floor
from ledger.reading import fetch
from ledger.spans import Grain, midnight, steps
from ledger.usage import INPUT_KINDS, OUTPUT_KINDS

SPAN_MAX: dict[Grain, timedelta] = {
    "hour": timedelta(days=7),
    "day": timedelta(days=400),
    "month": timedelta(days=366 * 10),
}
"""How much time one question may span."""

IDS = "SELECT id FROM users WHERE id = $1 OR merged_into = $1"


@dataclass(frozen=True, slots=True)
class UserUsage:
    """What was used in the hour, day or month that begins at ``starts``, in one currency (its units)."""

    starts: datetime
    currency: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: int


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What was used of one model for one task ("": for the user itself), in one currency."""

    model: str
    task: str
    currency: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: int


def tokens_of(*kinds: str) -> str:
    """SQL for the sum of these kinds over charges."""
    return "sum(" + " + ".join(f"coalesce((usage ->> '{kind}')::bigint, 0)" for kind in kinds) + ")::bigint"


_SUMS = (
    "sum(calls)::bigint, sum(input_tokens)::bigint, sum(cached_tokens)::bigint, sum(output_tokens)::bigint, "
    "sum(amount)::bigint"
)

# $2: the first instant of each hour, as the smallest id of it, and the end. A scalar subquery is asked for the few
# provisional charges alone.
_BY_HOUR = f"""
    SELECT width_bucket(request_id, $2::uuid[]) AS step, currency, count(*), {tokens_of(*INPUT_KINDS)},
           {tokens_of("cache_read")}, {tokens_of(*OUTPUT_KINDS)}, sum(amount)::bigint
    FROM charges c
    WHERE user_id = ANY ($1::uuid[]) AND request_id >= $3 AND request_id < $4
      AND (rev <> 'provisional' OR (SELECT f.rev FROM charges f
                                    WHERE f.request_id = c.request_id AND f.rev <> 'provisional' LIMIT 1) IS NULL)
    GROUP BY 1, 2 ORDER BY 1, 2
"""
_BY_DAY = f"""
    SELECT day, currency, {_SUMS} FROM usage_by_user_day
    WHERE user_id = ANY ($1::uuid[]) AND day >= $2 AND day < $3 GROUP BY 1, 2 ORDER BY 1, 2
"""
_BY_MONTH = f"""
    SELECT month, currency, {_SUMS} FROM usage_by_user_month
    WHERE user_id = ANY ($1::uuid[]) AND currency = ANY (ARRAY['USD', 'TOK']) AND month = ANY ($2::date[])
    GROUP BY 1, 2 ORDER BY 1, 2
"""
_BY_MODEL = f"""
    SELECT model, task, currency, {_SUMS} FROM usage_by_user_day
    WHERE user_id = ANY ($1::uuid[]) AND day >= $2 AND day < $3 GROUP BY 1, 2, 3 ORDER BY sum(amount) DESC, 1, 2, 3
"""


async def ids_of(engine: AsyncEngine, user_id: UUID) -> list[UUID]:
    """The user's own id and those merged into it."""
    return [row["id"] for row in await fetch(engine, IDS, user_id)]


async def used(
    engine: AsyncEngine, users: Sequence[UUID], step: Grain, since: datetime, until: datetime
) -> list[UserUsage]:
    """What these ids used, by whole hours, days or months: from the one ``since`` lies in to the last one that begins
    before ``until``. Steps in which nothing was used are left out.

    By day and month the newest calls may be missing for a second or so, until they are counted. Raises ValueError for
    more time than ``SPAN_MAX``, and what the driver raises.
    """
    if until - since > SPAN_MAX[step]:
        raise ValueError(f"at most {SPAN_MAX[step].days} days by {step}")
    if until <= since:
        return []
    starts = steps(step, since, until)
    if step == "hour":
        return await _by_hour(engine, users, starts)
    days = [start.date() for start in starts]
    if step == "day":
        rows = await fetch(engine, _BY_DAY, list(users), days[0], days[-1] + timedelta(days=1))
    else:
        rows = await fetch(engine, _BY_MONTH, list(users), days)
    return [UserUsage(midnight(row[0]), *tuple(row)[1:]) for row in rows]


async def used_by_model(
    engine: AsyncEngine, users: Sequence[UUID], since: datetime, until: datetime
) -> list[ModelUsage]:
    """What these ids used of each model on the days from ``since`` to ``until``, the dearest first."""
    if until - since > SPAN_MAX["day"]:
        raise ValueError(f"at most {SPAN_MAX['day'].days} days by day")
    if until <= since:
        return []
    days = steps("day", since, until)
    end = days[-1].date() + timedelta(days=1)
    return [ModelUsage(*row) for row in await fetch(engine, _BY_MODEL, list(users), days[0].date(), end)]


async def _by_hour(engine: AsyncEngine, users: Sequence[UUID], starts: list[datetime]) -> list[UserUsage]:
    floors = [floor(start) for start in starts]
    end = floor(starts[-1] + timedelta(hours=1))
    rows: list[Any] = await fetch(engine, _BY_HOUR, list(users), floors, floors[0], end)
    return [UserUsage(starts[row["step"] - 1], *tuple(row)[1:]) for row in rows]

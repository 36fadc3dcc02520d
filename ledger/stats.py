"""Statistics, read from the roll-ups alone: how much was used and charged, who was active, what was refused.

Time is counted in whole hours, days and months of UTC. A span is covered by the coarsest roll-ups it allows: whole
months from the monthly one, the days at its ends from the daily one, the hours at their ends from the hourly one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.reading import fetch
from ledger.rollup import HOUSE_MEASURES, MEASURES
from ledger.spans import GRAINS, Grain, Piece, cover, midnight

Label = Literal["model", "tier", "task"]
Period = Literal["month", "year"]

_ALL = MEASURES + HOUSE_MEASURES
SUMS = ", ".join(f"coalesce(sum({each}), 0)::bigint AS {each}" for each in _ALL)
"""SQL for the sums of everything a roll-up by time knows."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in all. Input tokens include cached ones. ``amount`` is what was charged, ``list_amount`` what it
    had been without markups, ``overrun`` what nobody covered, ``house_amount`` what the house bore itself; in units of
    the currency."""

    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: int
    list_amount: int
    overrun: int
    house_amount: int


@dataclass(frozen=True, slots=True)
class TimeUsage(Usage):
    """Of the hour, day or month that begins here."""

    starts: datetime


@dataclass(frozen=True, slots=True)
class LabelUsage(Usage):
    """Of one model, tier or task ("": what users asked for themselves)."""

    label: str


@dataclass(frozen=True, slots=True)
class UserUsage:
    """Of one user; the roll-up by user knows fewer sums."""

    user_id: UUID
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: int


@dataclass(frozen=True, slots=True)
class Labels:
    """Only what has these labels; None: whatever it has."""

    model: str | None = None
    tier: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Active:
    """How many users called in the day, week or month that begins here."""

    starts: date
    users: int


@dataclass(frozen=True, slots=True)
class Refused:
    """How many calls were refused: ``label`` is a code or a tier, ``starts`` an hour, day or month."""

    refusals: int
    label: str | None = None
    starts: datetime | None = None


async def usage_by_time(
    engine: AsyncEngine, grain: Grain, since: datetime, until: datetime, currency: str, labels: Labels
) -> list[TimeUsage]:
    """By hour, day or month, the earliest first; ``since`` and ``until`` are whole hours."""
    rows = await _summed(engine, grain, cover(since, until, grain), currency, labels, order="1")
    return [TimeUsage(**_sums(row), starts=_instant(row["key"])) for row in rows]


async def usage_by_label(
    engine: AsyncEngine, label: Label, since: datetime, until: datetime, currency: str, labels: Labels
) -> list[LabelUsage]:
    """By model, tier or task, the dearest first; ``since`` and ``until`` are whole hours."""
    rows = await _summed(engine, label, cover(since, until), currency, labels, order="amount DESC, 1")
    return [LabelUsage(**_sums(row), label=row["key"]) for row in rows]


async def usage_by_user(
    engine: AsyncEngine, period: Period, starts: date, currency: str, *, after: tuple[int, UUID] | None, limit: int
) -> list[UserUsage]:
    """By user, of the month or calendar year that begins on this day, the dearest first, from behind the one with this
    amount and id on."""
    behind = "AND amount <= $3 AND (amount < $3 OR user_id > $4)" if after is not None else ""
    query = f"""
        SELECT user_id, {", ".join(MEASURES)} FROM usage_by_user_{period}
        WHERE currency = $1 AND {period} = $2 {behind} ORDER BY amount DESC, user_id LIMIT {limit}
    """
    return [UserUsage(*row) for row in await fetch(engine, query, currency, starts, *(after or ()))]


async def active(
    engine: AsyncEngine, period: str, *, since: date | None, until: date | None, before: date | None, limit: int
) -> list[Active]:
    """How many users were active, the newest day, week or month first."""
    query = """
        SELECT starts, users FROM active_user_counts
        WHERE period = $1 AND starts >= coalesce($2::date, '-infinity') AND starts < coalesce($3::date, 'infinity')
          AND starts < coalesce($4::date, 'infinity')
        ORDER BY starts DESC LIMIT $5
    """
    return [Active(*row) for row in await fetch(engine, query, period, since, until, before, limit)]


async def refusals_by_time(engine: AsyncEngine, grain: Grain, since: datetime, until: datetime) -> list[Refused]:
    """By hour, day or month, the earliest first."""
    start = "hour" if grain == "hour" else f"date_trunc('{grain}', hour)"
    query = f"SELECT {start}, sum(refusals)::bigint FROM refusals_by_hour WHERE hour >= $1 AND hour < $2 GROUP BY 1"
    rows = await fetch(engine, f"{query} ORDER BY 1", since, until)
    return [Refused(row[1], starts=row[0]) for row in rows]


async def refusals_by_label(
    engine: AsyncEngine, label: Literal["code", "tier"], since: datetime, until: datetime
) -> list[Refused]:
    """By code or tier, the most frequent first."""
    query = f"SELECT {label}, sum(refusals)::bigint FROM refusals_by_hour WHERE hour >= $1 AND hour < $2 GROUP BY 1"
    rows = await fetch(engine, f"{query} ORDER BY 2 DESC, 1", since, until)
    return [Refused(row[1], label=row[0]) for row in rows]


async def _summed(
    engine: AsyncEngine, key: str, pieces: Sequence[Piece], currency: str, labels: Labels, *, order: str
) -> list[Any]:
    """The pieces summed by ``key``."""
    if not pieces:
        return []
    args: list[Any] = [currency, *(value for _, value in _named(labels))]
    only = "".join(f" AND {name} = ${place}" for place, (name, _) in enumerate(_named(labels), 2))
    parts = []
    for piece in pieces:
        args += [each if piece.grain == "hour" else each.date() for each in (piece.since, piece.until)]
        parts.append(
            f"SELECT {_key(key, piece.grain)} AS key, {', '.join(_ALL)} FROM usage_by_{piece.grain} "
            f"WHERE currency = $1{only} AND {piece.grain} >= ${len(args) - 1} AND {piece.grain} < ${len(args)}"
        )
    source = " UNION ALL ".join(parts)
    return await fetch(engine, f"SELECT key, {SUMS} FROM ({source}) AS pieces GROUP BY key ORDER BY {order}", *args)


def _sums(row: Any) -> dict[str, int]:
    return {each: row[each] for each in _ALL}


def _named(labels: Labels) -> Iterator[tuple[str, str]]:
    for name in ("model", "tier", "task"):
        if (value := getattr(labels, name)) is not None:
            yield name, value


def _key(key: str, grain: Grain) -> str:
    """By what a row of this grain is grouped, as SQL: its label, or the hour, day or month it lies in."""
    if key not in GRAINS or key == grain:
        return key
    day = f"({grain} AT TIME ZONE 'UTC')" if grain == "hour" else grain
    return f"date_trunc('{key}', {day})::date"


def _instant(start: date | datetime) -> datetime:
    return start if isinstance(start, datetime) else midnight(start)

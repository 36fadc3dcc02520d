"""Spans of whole hours, days and months of UTC, and which roll-ups they are read from. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple

Grain = Literal["hour", "day", "month"]
GRAINS: tuple[Grain, ...] = ("hour", "day", "month")


class Piece(NamedTuple):
    """A part of a span that is read from the roll-up of this grain."""

    grain: Grain
    since: datetime
    until: datetime


def first_of(grain: Grain, instant: datetime) -> datetime:
    """Where the hour, day or month (UTC) of an instant begins."""
    hour = instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if grain == "hour":
        return hour
    return hour.replace(hour=0) if grain == "day" else hour.replace(hour=0, day=1)


def following(grain: Grain, start: datetime) -> datetime:
    """Where the next hour, day or month begins."""
    if grain == "month":
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start + (timedelta(days=1) if grain == "day" else timedelta(hours=1))


def steps(grain: Grain, since: datetime, until: datetime) -> list[datetime]:
    """Where each hour, day or month of a span begins, from the one ``since`` lies in on."""
    start, found = first_of(grain, since), []
    while start < until:
        found.append(start)
        start = following(grain, start)
    return found


def is_whole(grain: Grain, instant: datetime) -> bool:
    """Whether an hour, day or month begins at this instant."""
    return first_of(grain, instant) == instant


def midnight(day: date) -> datetime:
    """The first instant (UTC) of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def cover(since: datetime, until: datetime, coarsest: Grain = "month") -> list[Piece]:
    """The pieces that make up a span of whole hours, the earliest first, each as coarse as it may be."""
    if since >= until:
        return []
    finer = GRAINS.index(coarsest) - 1
    if finer < 0:
        return [Piece(coarsest, since, until)]
    begin = since if is_whole(coarsest, since) else following(coarsest, first_of(coarsest, since))
    end = first_of(coarsest, until)
    if begin >= end:
        return cover(since, until, GRAINS[finer])
    before, after = cover(since, begin, GRAINS[finer]), cover(end, until, GRAINS[finer])
    return [*before, Piece(coarsest, begin, end), *after]

"""Spans are covered by pieces as coarse as they may be, without a gap and without an overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.spans import GRAINS, Grain, Piece, cover, first_of, following, is_whole, midnight, steps

_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_HOURS = st.integers(0, 3 * 366 * 24).map(lambda hours: _EPOCH + timedelta(hours=hours))


def _at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_whole_months_are_read_by_month_the_days_at_the_ends_by_day_and_their_hours_by_hour() -> None:
    assert cover(_at(2026, 1, 30, 22), _at(2026, 4, 2, 3)) == [
        Piece("hour", _at(2026, 1, 30, 22), _at(2026, 1, 31)),
        Piece("day", _at(2026, 1, 31), _at(2026, 2, 1)),
        Piece("month", _at(2026, 2, 1), _at(2026, 4, 1)),
        Piece("day", _at(2026, 4, 1), _at(2026, 4, 2)),
        Piece("hour", _at(2026, 4, 2), _at(2026, 4, 2, 3)),
    ]


def test_nothing_coarser_than_asked_for_is_used() -> None:
    assert cover(_at(2026, 1, 1), _at(2026, 3, 1), "day") == [Piece("day", _at(2026, 1, 1), _at(2026, 3, 1))]
    assert cover(_at(2026, 1, 1), _at(2026, 3, 1), "hour") == [Piece("hour", _at(2026, 1, 1), _at(2026, 3, 1))]


def test_an_empty_span_has_no_pieces() -> None:
    assert cover(_EPOCH, _EPOCH) == []


@given(_HOURS, _HOURS, st.sampled_from(GRAINS))
def test_pieces_follow_each_other_from_end_to_end(one: datetime, other: datetime, coarsest: Grain) -> None:
    since, until = sorted((one, other))
    pieces = cover(since, until, coarsest)
    ends = [since, *(piece.until for piece in pieces)]
    assert [piece.since for piece in pieces] == ends[:-1] and ends[-1] == until
    assert all(is_whole(piece.grain, edge) for piece in pieces for edge in (piece.since, piece.until))
    assert len(pieces) <= 5 and all(piece.since < piece.until for piece in pieces)


@given(_HOURS, st.sampled_from(GRAINS))
def test_an_instant_lies_between_where_its_grain_begins_and_where_the_next_one_does(
    instant: datetime, grain: Grain
) -> None:
    start = first_of(grain, instant + timedelta(minutes=59))
    assert start <= instant < following(grain, start) and is_whole(grain, start)


@pytest.mark.parametrize(("grain", "many"), [("hour", 49), ("day", 3), ("month", 2)])
def test_steps_begin_with_the_one_the_span_begins_in(grain: Grain, many: int) -> None:
    found = steps(grain, _at(2026, 1, 30, 23, 30), _at(2026, 2, 1, 23, 30))
    assert len(found) == many and found[0] == first_of(grain, _at(2026, 1, 30, 23, 30))
    assert all(following(grain, a) == b for a, b in pairwise(found))


def test_everything_is_utc() -> None:
    east = timezone(timedelta(hours=14))
    assert first_of("day", datetime(2026, 3, 1, 1, tzinfo=east)) == _at(2026, 2, 28)
    assert midnight(_at(2026, 3, 1).date()) == _at(2026, 3, 1)

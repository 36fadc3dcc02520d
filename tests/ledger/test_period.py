"""Periods are whole local days, weeks, months and years, whatever the clocks of a zone do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.period import Every, Plan, bounds

_ZONES = [
    "UTC",
    "Pacific/Kiritimati",
    "Asia/Kolkata",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Cairo",
    "Pacific/Apia",
]
_anchors: dict[Every, st.SearchStrategy[int | None]] = {
    "day": st.none(),
    "week": st.none() | st.integers(1, 7),
    "month": st.none() | st.integers(1, 31),
    "year": st.none(),
}
_every: st.SearchStrategy[Every] = st.sampled_from(["day", "week", "month", "year"])
plans = _every.flatmap(
    lambda every: st.builds(Plan, st.just(1), st.just(every), st.sampled_from(_ZONES), _anchors[every])
)
instants = st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(plans, instants)
def test_a_period_contains_its_instant(plan: Plan, now: datetime) -> None:
    start, end = bounds(plan, now)
    assert start <= now < end
    assert start.tzinfo is UTC and end.tzinfo is UTC


@given(plans, instants)
def test_periods_follow_each_other_without_gap_or_overlap(plan: Plan, now: datetime) -> None:
    start, end = bounds(plan, now)
    assert bounds(plan, end)[0] == end
    assert bounds(plan, start) == (start, end)
    assert bounds(plan, end - timedelta(microseconds=1)) == (start, end)
    assert bounds(plan, start - timedelta(microseconds=1))[1] == start


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Pacific/Kiritimati", "2026-10-31T10:00"),  # UTC+14: the first to begin a month
        ("Asia/Kolkata", "2026-10-31T18:30"),
        ("America/New_York", "2026-11-01T04:00"),  # still summer time at midnight, two hours before it ends
        ("Australia/Lord_Howe", "2026-10-31T13:00"),  # its summer time is half an hour
        ("America/Havana", "2026-11-01T04:00"),
    ],
)
def test_november_begins_at_each_zones_own_midnight(zone: str, start: str) -> None:
    assert bounds(Plan(1, "month", zone), _utc("2026-11-15T12:00"))[0] == _utc(start)


def test_a_day_whose_midnight_the_clocks_jump_over_begins_at_its_first_instant() -> None:
    start, end = bounds(Plan(1, "day", "America/Havana"), _utc("2026-03-08T12:00"))
    assert (start, end) == (_utc("2026-03-08T05:00"), _utc("2026-03-09T04:00"))
    assert start.astimezone(ZoneInfo("America/Havana")).hour == 1


def test_a_day_with_two_midnights_begins_at_the_first() -> None:
    start, end = bounds(Plan(1, "day", "America/Havana"), _utc("2026-11-01T12:00"))
    assert (end - start, start) == (timedelta(hours=25), _utc("2026-11-01T04:00"))


def test_a_day_that_a_zone_left_out_is_in_no_period_twice() -> None:
    """Samoa went from December 29th to the 31st."""
    start, end = bounds(Plan(1, "day", "Pacific/Apia"), _utc("2011-12-30T09:59"))
    assert end == _utc("2011-12-30T10:00")
    assert bounds(Plan(1, "day", "Pacific/Apia"), end)[0] == end > start


@pytest.mark.parametrize(
    ("anchor", "now", "start", "end"),
    [
        (31, "2028-02-29T12:00", "2028-02-29", "2028-03-31"),
        (31, "2028-02-28T12:00", "2028-01-31", "2028-02-29"),
        (31, "2026-02-28T00:00", "2026-02-28", "2026-03-31"),
        (31, "2026-04-30T00:00", "2026-04-30", "2026-05-31"),
        (30, "2026-03-01T00:00", "2026-02-28", "2026-03-30"),
        (15, "2026-01-14T23:59", "2025-12-15", "2026-01-15"),
        (None, "2026-12-31T23:59", "2026-12-01", "2027-01-01"),
    ],
)
def test_an_anchor_day_a_month_does_not_have_is_its_last_day(
    anchor: int | None, now: str, start: str, end: str
) -> None:
    assert bounds(Plan(1, "month", "UTC", anchor), _utc(now)) == (_utc(start), _utc(end))


def test_a_week_begins_on_its_anchor_day() -> None:
    assert bounds(Plan(1, "week", "UTC", 7), _utc("2026-11-21T12:00"))[0] == _utc("2026-11-15")
    assert bounds(Plan(1, "week", "UTC"), _utc("2026-11-21T12:00"))[0] == _utc("2026-11-16")


def test_a_year_begins_on_new_years_day_of_the_zone() -> None:
    start, end = bounds(Plan(1, "year", "Asia/Kolkata"), _utc("2026-12-31T18:30"))
    assert (start, end) == (_utc("2026-12-31T18:30"), _utc("2027-12-31T18:30"))

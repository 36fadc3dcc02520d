"""Budgets' periods: one row for each owner and period, and none shared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.budget import Budget, period
from ledger.period import Every

_OWNER = UUID(int=7)
_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
_EVERY: list[Every] = ["day", "week", "month", "year"]
_BUDGETS = st.builds(
    Budget,
    st.integers(0, 10**15),
    st.none() | st.sampled_from(_EVERY),
    st.sampled_from(["UTC", "Pacific/Kiritimati", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]),
    st.none() | st.integers(1, 7),
)
_INSTANTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def test_a_budget_once_and_for_all_never_ends() -> None:
    found = period(Budget(5), _OWNER, _NOW)
    assert found.ends_at is None and found.starts_at < _NOW
    assert found.id == period(Budget(9), _OWNER, _NOW + timedelta(days=9999)).id


def test_a_month_in_its_zone_has_one_row() -> None:
    budget = Budget(5, "month", "Asia/Kolkata")
    found = period(budget, _OWNER, _NOW)
    assert found.starts_at == datetime(2026, 10, 31, 18, 30, tzinfo=UTC)
    assert found.ends_at == datetime(2026, 11, 30, 18, 30, tzinfo=UTC)
    assert period(budget, _OWNER, found.ends_at - timedelta(microseconds=1)).id == found.id
    assert period(budget, _OWNER, found.ends_at).id != found.id


def test_a_larger_budget_of_the_same_length_goes_on_where_it_stands() -> None:
    assert period(Budget(5, "day"), _OWNER, _NOW).id == period(Budget(50, "day"), _OWNER, _NOW).id


@pytest.mark.parametrize("every", [*_EVERY[1:], None])
def test_a_budget_of_another_length_counts_anew_even_from_the_same_instant(every: Every | None) -> None:
    new_year = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday: day, week, month and year begin at once
    day = period(Budget(5, "day"), _OWNER, new_year)
    other = period(Budget(5, every), _OWNER, new_year)
    assert every is None or other.starts_at == day.starts_at
    assert other.id != day.id


@given(_BUDGETS, _INSTANTS)
def test_an_instant_lies_in_its_period_and_owners_share_none(budget: Budget, now: datetime) -> None:
    found = period(budget, _OWNER, now)
    assert found.starts_at <= now and (found.ends_at is None or now < found.ends_at)
    assert period(budget, _OWNER, found.starts_at).id == found.id
    assert period(budget, uuid4(), now).id != found.id

"""Months by name, by ids, by tables."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from ledger import months
from ledger.ids import instant_of, uuid7_at


def test_a_month_is_read_as_it_is_written() -> None:
    assert months.parse("2026-11") == months.parse("202611") == date(2026, 11, 1)
    assert months.name(date(2026, 2, 1)) == "2026-02"


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "1969-12", "x"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 2026-11"):
        months.parse(text)


def test_months_are_counted_over_years() -> None:
    assert months.plus(date(2026, 11, 1), 2) == date(2027, 1, 1)
    assert months.plus(date(2026, 1, 1), -1) == date(2025, 12, 1)
    assert months.plus(date(2026, 12, 1), 0) == date(2026, 12, 1)


def test_its_ids_are_those_from_its_first_instant_to_before_the_next_month() -> None:
    first, end = months.bounds(date(2026, 12, 1))
    midnight = datetime(2027, 1, 1, tzinfo=UTC)
    assert instant_of(first) == datetime(2026, 12, 1, tzinfo=UTC) and instant_of(end) == midnight
    assert first <= uuid7_at(datetime(2026, 12, 1, tzinfo=UTC)) < end
    assert first < uuid7_at(midnight - timedelta(milliseconds=1)) < end <= uuid7_at(midnight)


def test_an_instant_is_of_the_month_it_has_in_utc() -> None:
    assert months.month_of(datetime.fromisoformat("2026-12-01T01:00+02:00")) == date(2026, 11, 1)


def test_each_table_has_a_partition_for_it() -> None:
    assert months.tables(date(2026, 3, 1)) == (
        "holds_202603", "charges_202603", "journal_entries_202603", "postings_202603",
    )  # fmt: skip

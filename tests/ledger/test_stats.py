"""Statistics are read from the roll-ups, whichever of them a span is covered by."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import uuid7_at
from ledger.reading import fetch, reader
from ledger.roller import write
from ledger.rollup import Counted, rolled
from ledger.spans import Grain
from ledger.stats import (
    Labels,
    Period,
    active,
    refusals_by_label,
    refusals_by_time,
    usage_by_label,
    usage_by_time,
    usage_by_user,
)
from ledger.usage import Usage

_ALL = Labels()
_SINCE, _UNTIL = datetime(2026, 1, 30, 22, tzinfo=UTC), datetime(2026, 4, 2, 3, tzinfo=UTC)


def _call(at: datetime, amount: int, **more: Any) -> Counted:
    values: dict[str, Any] = {"user_id": UUID(int=1), "tier": "pro", "model": "m", "task": "", "currency": "USD"}
    values |= {"usage": Usage(input=amount, output=1), "overrun": 0, "house": False, "factor_ppm": 1_000_000}
    return Counted(request_id=uuid7_at(at), amount=amount, price_version=1, variant="", **{**values, **more})


@pytest.fixture
async def rollups(engine: AsyncEngine) -> AsyncEngine:
    """One call an hour for four months, of amounts 1, 2, 3 …; every fifth one on another model, by another user."""
    calls = []
    for number in range(120 * 24):
        labels = {"model": "n", "user_id": UUID(int=2), "tier": "free", "task": "title"} if number % 5 == 0 else {}
        calls.append(_call(datetime(2026, 1, 1, 0, 30, tzinfo=UTC) + timedelta(hours=number), number + 1, **labels))
    calls.append(_call(datetime(2026, 2, 15, tzinfo=UTC), 7, currency="TOK"))
    async with reader(engine) as driver, driver.transaction():
        await write(driver, rolled(calls, {}))
    return engine


def _hours(since: datetime, until: datetime) -> range:
    """The amounts of the calls of these hours."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return range(int((since - begin).total_seconds() // 3600) + 1, int((until - begin).total_seconds() // 3600) + 1)


@pytest.mark.parametrize("grain", ["hour", "day", "month"])
async def test_sums_by_time_add_up_to_the_hours_asked_for_whatever_they_are_read_from(
    rollups: AsyncEngine, grain: Grain
) -> None:
    rows = await usage_by_time(rollups, grain, _SINCE, _UNTIL, "USD", _ALL)
    hours = _hours(_SINCE, _UNTIL)
    assert sum(row.amount for row in rows) == sum(hours) and sum(row.calls for row in rows) == len(hours)
    assert [row.starts for row in rows] == sorted(row.starts for row in rows)
    assert rows[0].starts <= _SINCE < _UNTIL > rows[-1].starts
    assert sum(row.output_tokens for row in rows) == len(hours)


@pytest.mark.parametrize(
    ("label", "usual", "other"), [("model", "m", "n"), ("tier", "pro", "free"), ("task", "", "title")]
)
async def test_sums_by_label_are_of_the_same_hours_the_dearest_first(
    rollups: AsyncEngine, label: Any, usual: str, other: str
) -> None:
    rows = await usage_by_label(rollups, label, _SINCE, _UNTIL, "USD", _ALL)
    hours = _hours(_SINCE, _UNTIL)
    assert [(row.label, row.amount) for row in rows] == [
        (usual, sum(each for each in hours if each % 5 != 1)),
        (other, sum(each for each in hours if each % 5 == 1)),
    ]


async def test_only_what_has_the_labels_is_summed(rollups: AsyncEngine) -> None:
    hours = [each for each in _hours(_SINCE, _UNTIL) if each % 5 == 1]
    for only in (Labels(model="n"), Labels(tier="free"), Labels(task="title"), Labels("n", "free", "title")):
        rows = await usage_by_label(rollups, "model", _SINCE, _UNTIL, "USD", only)
        assert [row.amount for row in rows] == [sum(hours)]
    assert await usage_by_label(rollups, "model", _SINCE, _UNTIL, "USD", Labels("n", "pro")) == []


async def test_each_currency_is_summed_apart(rollups: AsyncEngine) -> None:
    [row] = await usage_by_time(rollups, "month", _SINCE, _UNTIL, "TOK", _ALL)
    assert (row.starts, row.calls, row.amount) == (datetime(2026, 2, 1, tzinfo=UTC), 1, 7)


async def test_an_empty_span_has_no_rows(rollups: AsyncEngine) -> None:
    assert await usage_by_time(rollups, "day", _SINCE, _SINCE, "USD", _ALL) == []


@pytest.mark.parametrize(
    ("period", "until"),
    [("month", datetime(2026, 2, 1, tzinfo=UTC)), ("year", datetime(2026, 5, 1, tzinfo=UTC))],
)
async def test_users_are_summed_by_month_and_year_the_dearest_first_a_page_at_a_time(
    rollups: AsyncEngine, period: Period, until: datetime
) -> None:
    start = date(2026, 1, 1)
    hours = _hours(datetime(2026, 1, 1, tzinfo=UTC), until)
    mine, other = sum(each for each in hours if each % 5 != 1), sum(each for each in hours if each % 5 == 1)
    rows = await usage_by_user(rollups, period, start, "USD", after=None, limit=9)
    assert [(row.user_id.int, row.amount) for row in rows] == [(1, mine), (2, other)]
    [second] = await usage_by_user(rollups, period, start, "USD", after=(mine, UUID(int=1)), limit=9)
    assert second == rows[1]
    assert await usage_by_user(rollups, period, start, "USD", after=(other, UUID(int=2)), limit=9) == []
    assert len(await usage_by_user(rollups, period, start, "USD", after=None, limit=1)) == 1


async def test_users_with_the_same_amount_are_all_seen(engine: AsyncEngine) -> None:
    month = datetime(2026, 2, 1, tzinfo=UTC)
    async with reader(engine) as driver, driver.transaction():
        await write(driver, rolled([_call(month, 5, user_id=UUID(int=n)) for n in range(1, 8)], {}))
    seen, after = [], None
    while page := await usage_by_user(engine, "month", month.date(), "USD", after=after, limit=3):
        seen += [row.user_id.int for row in page]
        after = (page[-1].amount, page[-1].user_id)
    assert seen == list(range(1, 8))


async def test_active_users_are_told_newest_first(rollups: AsyncEngine) -> None:
    months = await active(rollups, "month", since=None, until=None, before=None, limit=9)
    assert [(row.starts, row.users) for row in months] == [(date(2026, month, 1), 2) for month in (4, 3, 2, 1)]
    some = await active(rollups, "day", since=date(2026, 2, 1), until=date(2026, 2, 4), before=None, limit=9)
    assert [row.starts for row in some] == [date(2026, 2, day) for day in (3, 2, 1)]
    behind = await active(rollups, "week", since=None, until=None, before=date(2026, 1, 12), limit=1)
    assert [row.starts for row in behind] == [date(2026, 1, 5)]


async def test_refusals_are_summed_by_time_code_and_tier(engine: AsyncEngine) -> None:
    for hour, code, tier, many in ((0, "a", "free", 1), (1, "b", "free", 5), (25, "a", "pro", 2)):
        at = datetime(2026, 1, 31, tzinfo=UTC) + timedelta(hours=hour)
        insert = "INSERT INTO refusals_by_hour (hour, code, tier, refusals) VALUES ($1, $2, $3, $4) RETURNING 1"
        await fetch(engine, insert, at, code, tier, many)
    span = datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    assert [(row.label, row.refusals) for row in await refusals_by_label(engine, "code", *span)] == [("b", 5), ("a", 3)]
    tiers = await refusals_by_label(engine, "tier", *span)
    assert [(row.label, row.refusals) for row in tiers] == [("free", 6), ("pro", 2)]
    by_grain: dict[Grain, list[int]] = {"hour": [1, 5, 2], "day": [6, 2], "month": [6, 2]}
    for grain, expected in by_grain.items():
        assert [row.refusals for row in await refusals_by_time(engine, grain, *span)] == expected
    later = await refusals_by_time(engine, "hour", span[0] + timedelta(hours=1), span[0] + timedelta(hours=25))
    assert [row.refusals for row in later] == [5]

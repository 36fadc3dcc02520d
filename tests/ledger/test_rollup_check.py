"""The check passes on what the roller did and names each way in which statistics and charges may part."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from ledger.ids import floor
from ledger.roller import Roller
from ledger.rollup_check import _months, check
from tests.ledger.till import Till


async def _check(till: Till) -> tuple[int, list[str]]:
    async with till.engine.connect() as pooled:
        driver = (await pooled.get_raw_connection()).driver_connection
        assert driver is not None
        return await check(driver)


async def _charge(till: Till, amount: int) -> UUID:
    ask = await till.hold(await till.wallet(1000), amount)
    await till.bank.close([till.event(ask, amount)])
    return ask.request_id


async def test_a_ledger_without_charges_has_nothing_to_compare(till: Till) -> None:
    assert await _check(till) == (0, [])


async def test_what_waits_to_be_counted_is_no_difference(till: Till) -> None:
    await _charge(till, 30)
    looked_at, broken = await _check(till)
    assert looked_at and broken == []
    await Roller(till.engine).roll()
    await _charge(till, 12)
    assert (await _check(till))[1] == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("DELETE FROM charges_to_roll", "usage_by_hour of"),
        ("INSERT INTO charges_to_roll SELECT request_id, rev FROM charges", "calls 1, charges say 0"),
        ("UPDATE usage_by_hour SET calls = calls + 1", "usage_by_hour of"),
        ("UPDATE usage_by_day SET input_tokens = input_tokens + 1", "usage_by_day of"),
        ("UPDATE usage_by_month SET overrun = overrun + 1", "overrun 1, charges say 0"),
        ("UPDATE usage_by_month SET house_amount = 1", "house_amount 1, charges say 0"),
        ("DELETE FROM usage_by_user_day", "usage_by_user_day of"),
        ("UPDATE usage_by_user_month SET amount = amount - 1", "amount 29, charges say 30"),
        ("UPDATE usage_by_user_year SET input_tokens = input_tokens + 1", "usage_by_user_year of"),
        ("UPDATE usage_by_month SET currency = 'TOK'", "in TOK: calls 1, charges say 0"),
        ("UPDATE usage_by_day SET day = day - 40", "usage_by_day of"),
        ("UPDATE active_user_counts SET users = 2 WHERE period = 'week'", "active users of the week"),
        ("DELETE FROM active_users WHERE period = 'month'", "is not among its active users"),
    ],
)
async def test_each_difference_is_named(till: Till, damage: str, told: str) -> None:
    await _charge(till, 30)
    if "DELETE FROM charges_to_roll" not in damage:
        await Roller(till.engine).roll()
        assert (await _check(till))[1] == []
    await till.sql(damage)
    assert any(told in line for line in (await _check(till))[1]), (await _check(till))[1]


async def test_months_are_those_of_the_ids_over_the_turn_of_the_year() -> None:
    first, last = floor(datetime(2025, 11, 30, 23, tzinfo=UTC)), floor(datetime(2026, 2, 1, tzinfo=UTC))
    assert list(_months(first, last)) == [date(2025, 11, 1), date(2025, 12, 1), date(2026, 1, 1), date(2026, 2, 1)]
    assert list(_months(None, None)) == []

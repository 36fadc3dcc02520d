"""What charges add to the statistics."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.ids import floor
from ledger.price import Price, charge_amount
from ledger.rollup import MEASURES, TABLES, Counted, Rollup, list_amount, measures, periods, rolled
from ledger.usage import Usage

_PRICE = Price(7, "m", {"input": 1000, "output": 4000})
_AT = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)


def _charge(**more: Any) -> Counted:
    usage = more.pop("usage", Usage(input=10, cache_read=5, output=3, reasoning=2))
    values: dict[str, Any] = {
        "request_id": floor(_AT),
        "user_id": UUID(int=1),
        "tier": "pro",
        "model": "m",
        "task": "",
        "currency": "USD",
        "usage": usage,
        "amount": charge_amount(usage, _PRICE, 1_500_000),
        "overrun": 0,
        "house": False,
        "price_version": 7,
        "factor_ppm": 1_500_000,
        "variant": "",
    }
    return Counted(**{**values, **more})


def _sums(rollup: Rollup, table: str) -> dict[str, int]:
    """The sums of a table's only row."""
    [values] = rollup.sums[table].values()
    return dict(zip(measures(table), values, strict=False))


def test_a_call_belongs_to_the_hour_day_and_month_its_id_says_in_utc() -> None:
    rollup = rolled([_charge()], {7: _PRICE})
    labels = ("m", "pro", "", "USD")
    assert list(rollup.sums["usage_by_hour"]) == [(datetime(2026, 2, 28, 23, tzinfo=UTC), *labels)]
    assert list(rollup.sums["usage_by_day"]) == [(date(2026, 2, 28), *labels)]
    assert list(rollup.sums["usage_by_month"]) == [(date(2026, 2, 1), *labels)]
    assert list(rollup.sums["usage_by_user_day"]) == [(UUID(int=1), date(2026, 2, 28), "m", "", "USD")]
    assert list(rollup.sums["usage_by_user_month"]) == [(date(2026, 2, 1), "USD", UUID(int=1))]
    assert list(rollup.sums["usage_by_user_year"]) == [(date(2026, 1, 1), "USD", UUID(int=1))]


def test_input_tokens_are_all_of_them_and_cached_ones_a_part_of_them() -> None:
    sums = _sums(rolled([_charge()], {7: _PRICE}), "usage_by_hour")
    assert (sums["calls"], sums["input_tokens"], sums["cached_tokens"], sums["output_tokens"]) == (1, 15, 5, 5)


def test_the_list_amount_is_without_the_tiers_markup() -> None:
    sums = _sums(rolled([_charge()], {7: _PRICE}), "usage_by_day")
    assert sums["list_amount"] == charge_amount(_charge().usage, _PRICE, 1_000_000)
    assert sums["amount"] == charge_amount(_charge().usage, _PRICE, 1_500_000) > sums["list_amount"]


@pytest.mark.parametrize(("price", "factor"), [(None, 1_500_000), (_PRICE, 1_000_000)])
def test_where_there_is_no_markup_or_no_price_the_list_amount_is_what_was_charged(
    price: Price | None, factor: int
) -> None:
    assert list_amount(_charge(amount=99, factor_ppm=factor), price) == 99


def test_what_the_house_bore_and_what_nobody_covered_is_summed_apart() -> None:
    rollup = rolled([_charge(house=True, amount=8), _charge(amount=5, overrun=2)], {})
    sums = _sums(rollup, "usage_by_month")
    assert (sums["amount"], sums["house_amount"], sums["overrun"]) == (13, 8, 2)


def test_a_later_word_takes_back_what_was_said_before() -> None:
    first = _charge(amount=5, usage=Usage(output=2))
    rollup = rolled([first, _charge(amount=9), first._replace(sign=-1)], {})
    once = rolled([_charge(amount=9)], {})
    assert rollup.sums == once.sums


def test_a_later_word_on_another_model_moves_the_call_there() -> None:
    first = _charge(model="asked")
    rollup = rolled([first, _charge(model="answered"), first._replace(sign=-1)], {})
    calls = {key[1]: values[0] for key, values in rollup.sums["usage_by_day"].items()}
    assert calls == {"asked": 0, "answered": 1}


def test_who_called_was_active_in_the_day_the_week_from_monday_on_and_the_month() -> None:
    assert rolled([_charge(), _charge()], {}).active == {
        ("day", date(2026, 2, 28), UUID(int=1)),
        ("week", date(2026, 2, 23), UUID(int=1)),
        ("month", date(2026, 2, 1), UUID(int=1)),
    }


@given(st.dates(date(1999, 1, 1), date(2100, 1, 1)))
def test_every_day_lies_in_its_periods(day: date) -> None:
    found = dict(periods(day))
    assert found["day"] == day and found["month"].day == 1 and found["month"].month == day.month
    assert found["week"].weekday() == 0 and 0 <= (day - found["week"]).days < 7


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 10**12)), max_size=30))
def test_every_table_of_sums_says_the_same_in_all(calls: list[tuple[int, bool, int]]) -> None:
    users = [uuid4() for _ in range(3)]
    charges = [_charge(user_id=users[who], house=house, amount=amount) for who, house, amount in calls]
    rollup = rolled(charges, {7: _PRICE})
    for table in TABLES:
        total = [sum(values[place] for values in rollup.sums[table].values()) for place, _ in enumerate(MEASURES)]
        assert total[MEASURES.index("amount")] == sum(charge.amount for charge in charges)
        assert total[MEASURES.index("calls")] == len(calls)

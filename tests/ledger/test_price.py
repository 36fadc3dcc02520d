"""A charge is one ceiling over exact products; splitting a call never saves."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.price import PPM, Price, Rates, Step, charge_amount
from ledger.usage import INPUT_KINDS, KINDS, Usage

ALL = {kind: at for at, kind in enumerate(KINDS, 1)}

_rates = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**8))
_parts = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**9))
_factors = st.integers(0, 10 * PPM)


@given(_parts, _rates, _factors, st.integers(0, 10**12))
def test_a_charge_is_the_ceiling_of_the_exact_value(
    parts: dict[str, int], rates: dict[str, int], factor: int, per_request: int
) -> None:
    price = Price(1, "m", rates, per_request)
    exact = Fraction(factor, PPM) * sum(Fraction(units * price.rate(kind), 1000) for kind, units in parts.items())
    assert charge_amount(Usage(**parts), price, factor) == ceil(exact) + per_request


@given(_parts, _parts, _rates, _factors)
def test_splitting_a_call_never_saves(
    one: dict[str, int], other: dict[str, int], rates: dict[str, int], factor: int
) -> None:
    price = Price(1, "m", rates)
    whole = Usage(**{kind: one.get(kind, 0) + other.get(kind, 0) for kind in KINDS})
    parts = charge_amount(Usage(**one), price, factor) + charge_amount(Usage(**other), price, factor)
    assert charge_amount(whole, price, factor) <= parts <= charge_amount(whole, price, factor) + 1


def test_a_million_tokens_cost_what_the_price_list_says() -> None:
    price = Price(1, "m", {"input": 150_000, "output": 600_000})
    assert charge_amount(Usage(input=1_000_000, output=1_000_000), price, PPM) == 750_000_000


def test_a_fraction_of_a_nano_usd_is_rounded_up_once() -> None:
    price = Price(1, "m", {"input": 1, "output": 1})
    assert charge_amount(Usage(input=1, output=1), price, PPM) == 1


def test_a_kind_without_a_price_is_charged_as_what_it_is_a_case_of() -> None:
    price = Price(1, "m", {"input": 10, "output": 20})
    assert {kind: price.rate(kind) for kind in KINDS} == {
        **dict.fromkeys(("input", "cache_read", "cache_write", "cache_write_1h", "audio_in", "image_in"), 10),
        **dict.fromkeys(("output", "reasoning", "audio_out"), 20),
        **dict.fromkeys(("web_searches", "images", "seconds", "characters"), 0),
    }


def test_a_long_cache_write_falls_back_to_the_short_one_first() -> None:
    assert Price(1, "m", {"input": 10, "cache_write": 12}).rate("cache_write_1h") == 12


def test_a_price_of_zero_is_a_price() -> None:
    assert Price(1, "m", {"input": 10, "cache_read": 0}).rate("cache_read") == 0


def test_nothing_used_costs_the_request_alone() -> None:
    assert charge_amount(Usage(), Price(1, "m", {"input": 10}, per_request=7), PPM) == 7


_BASE = {"input": 10, "cache_read": 1, "output": 40}
_PRIORITY = {"input": 20, "output": 80}
_LONG = Step(200, {"input": 20, "output": 60})


def test_the_step_prices_the_whole_call_once_its_input_is_above_it() -> None:
    price = Price(1, "m", _BASE, long_context=_LONG)
    assert charge_amount(Usage(input=150, cache_read=50, output=1000), price, PPM) == ceil((1500 + 50 + 40_000) / 1000)
    dear = 151 * 20 + 50 * 2 + 1000 * 60
    assert charge_amount(Usage(input=151, cache_read=50, output=1000), price, PPM) == ceil(dear / 1000)


def test_a_variant_is_looked_up_whole_then_without_its_last_part_then_as_the_base() -> None:
    price = Price(1, "m", {"images": 1}, variants={"a/hd": {"images": 4}, "a": {"images": 2}})
    assert [price.known_variant(name) for name in ("a/hd", "a/low", "a", "b/hd", "", "a/b/hd")] == [
        "a/hd", "a", "a", "", "", "",
    ]  # fmt: skip
    assert [price.rate("images", name) for name in ("a/hd", "a/low", "b/hd")] == [4, 2, 1]


def test_a_kind_the_variant_does_not_name_rises_as_its_general_kind_and_never_falls() -> None:
    price = Price(1, "m", _BASE, variants={"priority": _PRIORITY, "flex": {"input": 5, "output": 20}})
    assert price.rate("cache_read", "priority") == 2
    assert price.rate("cache_read", "flex") == 1
    assert price.rate("audio_in", "flex") == 5  # nobody priced it, so it is plain input there, too
    assert price.rate("cache_read", "unheard-of") == 1


def test_what_a_variant_names_is_charged_as_it_says() -> None:
    price = Price(1, "m", _BASE, variants={"priority": {**_PRIORITY, "cache_read": 7}})
    assert price.rate("cache_read", "priority") == 7


def test_a_long_call_in_a_variant_pays_both() -> None:
    price = Price(1, "m", _BASE, long_context=_LONG, variants={"priority": _PRIORITY})
    assert [price.rate(kind, "priority", 201) for kind in ("input", "cache_read", "output")] == [40, 4, 120]
    assert [price.rate(kind, "priority", 200) for kind in ("input", "cache_read", "output")] == [20, 2, 80]


def test_a_price_of_zero_rises_to_what_the_variant_names() -> None:
    price = Price(1, "m", {"input": 0, "cache_read": 0}, variants={"priority": {"input": 3}})
    assert price.rate("cache_read", "priority") == 3


@given(_rates, _rates, _rates, st.integers(0, 300))
def test_a_surcharge_is_never_forgotten(
    base: dict[str, int], over: dict[str, int], step: dict[str, int], tokens: int
) -> None:
    price = Price(1, "m", base, long_context=Step(100, step), variants={"v": over})
    for kind in KINDS:
        if kind in base and kind not in over and kind not in step:
            assert price.rate(kind, "v", tokens) >= base[kind]
        if kind in over:
            assert price.rate(kind, "v", tokens) >= over[kind]


@given(_parts, _rates, _rates, st.integers(0, 10**9), _factors)
def test_a_charge_in_a_variant_is_one_ceiling_too(
    parts: dict[str, int], rates: dict[str, int], over: dict[str, int], above: int, factor: int
) -> None:
    price, usage = Price(1, "m", rates, 5, Step(above, over), {"v": over}), Usage(**parts)
    exact = sum(Fraction(units * price.rate(kind, "v", usage.input_tokens), 1000) for kind, units in parts.items())
    assert charge_amount(usage, price, factor, "v") == ceil(Fraction(factor, PPM) * exact) + 5


@pytest.mark.parametrize(
    "rates",
    [
        {"pico": {"input": -1}},
        {"per_request": -1},
        {"long_context": {"above": 1, "pico": {"input": -1}}},
        {"variants": {"flex": {"input": -1}}},
    ],
)
def test_a_number_below_zero_is_no_price(rates: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(rates, Rates)
    step = Step(1, rates["long_context"]["pico"]) if "long_context" in rates else None
    with pytest.raises(ValueError, match="below zero"):
        Price(1, "m", **{**rates, "long_context": step})


def test_a_price_and_its_rates_are_the_same_and_old_documents_are_read() -> None:
    rates = Rates(_BASE, 7, _LONG, {"priority": _PRIORITY})
    assert Price.of(3, "m", rates).rates == rates
    assert msgspec.json.decode(msgspec.json.encode(rates), type=Rates) == rates
    assert msgspec.json.decode(b'{"pico": {"input": 1}, "per_request": 0}', type=Rates) == Rates({"input": 1})


def test_a_price_that_nothing_changes_knows_all_its_rates_in_the_order_of_the_kinds() -> None:
    assert Usage.__struct_fields__ == KINDS
    assert Price(1, "m", ALL).plain == tuple(ALL.values())
    assert Price(1, "m", {"input": 5}).plain == tuple(5 if kind in INPUT_KINDS else 0 for kind in KINDS)
    assert Price(1, "m", ALL, variants={"flex": {}}).plain is None
    assert Price(1, "m", ALL, long_context=Step(9, {})).plain is None
    assert Price(1, "m", ALL, variants={"flex": {}}).pico_of(Usage(**ALL)) == Price(1, "m", ALL).pico_of(Usage(**ALL))
    assert Price(1, "m", {"output": 3, "reasoning": 7}).dearer_output(Usage()) == 7

"""A charge is one ceiling over exact products; splitting a call never saves."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from ledger.price import PPM, Price, charge_amount
from ledger.usage import KINDS, Usage

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

"""Money is exact: text in, whole nano-USD inside, the same text out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import (
    NANO,
    format_price,
    format_unit_price,
    format_usd,
    parse_price,
    parse_unit_price,
    parse_usd,
)

_MOST = 9_000_000 * NANO


@pytest.mark.parametrize(
    ("said", "nano"),
    [
        ("1", NANO),
        (3, 3 * NANO),
        ("0.000000001", 1),
        ("-0.5", -NANO // 2),
        (Decimal("12.34"), 12_340_000_000),
        ("1e-9", 1),
        ("9000000", _MOST),
        ("-0", 0),
    ],
)
def test_an_amount_becomes_whole_nano_usd(said: Any, nano: int) -> None:
    assert parse_usd(said) == nano


@pytest.mark.parametrize(
    "said",
    [
        "",
        "a",
        "0.0000000001",
        "NaN",
        "sNaN",
        "Infinity",
        "9000000.000000001",
        "1e30",
        0.1,
        True,
        None,
        b"1",
        "1e-999999",
    ],
)
def test_what_is_not_an_exact_amount_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="an amount in USD"):
        parse_usd(said)


@given(st.integers(-_MOST, _MOST))
def test_what_is_printed_reads_back_as_itself(nano: int) -> None:
    assert parse_usd(format_usd(nano)) == nano


@given(st.integers(0, 9_000_000 * 10**6))
def test_a_printed_price_reads_back_as_itself(pico: int) -> None:
    assert parse_price(format_price(pico)) == pico


@pytest.mark.parametrize(
    ("nano", "text"),
    [(4_000_000, "0.0040"), (12_500_000_000, "12.5000"), (-1, "-0.000000001"), (0, "0.0000"), (1_230_000, "0.00123")],
)
def test_an_amount_is_printed_with_four_to_nine_decimals(nano: int, text: str) -> None:
    assert format_usd(nano) == text


@pytest.mark.parametrize(("said", "pico"), [("0.0375", 37_500), ("15", 15_000_000), (0, 0), ("0.000001", 1)])
def test_a_price_per_million_is_pico_usd_per_unit(said: Any, pico: int) -> None:
    assert parse_price(said) == pico


@pytest.mark.parametrize("said", ["-1", "0.0000001", "nothing", 0.5])
def test_what_is_not_an_exact_price_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="price"):
        parse_price(said)


def test_a_price_is_printed_with_at_least_two_decimals() -> None:
    assert [format_price(pico) for pico in (150_000, 37_500, 2_000_000)] == ["0.15", "0.0375", "2.00"]


@pytest.mark.parametrize(("said", "pico"), [("0.04", 4 * 10**10), ("0.000000000001", 1), (2, 2 * 10**12)])
def test_a_price_of_one_unit_is_pico_usd(said: Any, pico: int) -> None:
    assert parse_unit_price(said) == pico
    assert parse_unit_price(format_unit_price(pico)) == pico


@pytest.mark.parametrize("said", ["-1", "0.0000000000001", "nothing", 0.5])
def test_what_is_not_an_exact_price_of_one_unit_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="price"):
        parse_unit_price(said)

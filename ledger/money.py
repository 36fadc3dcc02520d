"""Units of money. Pure.

Ledger amounts are whole **nano-USD** (10⁻⁹); prices are whole **pico-USD per unit**, which is the same number as
micro-USD per million units (0.0375 USD/1M tokens = 37 500). No float ever touches money: a float is refused, not
rounded.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

NANO = 10**9
_NANO_DECIMALS = 9
_PICO_DECIMALS = 6
_UNIT_DECIMALS = 12
# BIGINT holds 9.2e18 nano-USD; the bound keeps sums of many amounts inside it and every amount exact in a double.
_USD_MAX = 9_000_000


def parse_usd(value: str | int | Decimal) -> int:
    """USD as text, int or Decimal -> nano-USD, exactly.

    Raises ValueError for anything that is not a finite decimal number, has more than nine decimals, or is beyond
    nine million USD either way.
    """
    return _scaled(value, _NANO_DECIMALS, "an amount in USD")


def parse_price(value: str | int | Decimal) -> int:
    """USD per 1M units as text, int or Decimal -> pico-USD per unit. Raises ValueError, also for a negative price."""
    pico = _scaled(value, _PICO_DECIMALS, "a price in USD per 1M")
    if pico < 0:
        raise ValueError("a price must not be negative")
    return pico


def parse_unit_price(value: str | int | Decimal) -> int:
    """USD per ONE unit as text, int or Decimal -> pico-USD per unit. Raises ValueError, also for a negative price."""
    pico = _scaled(value, _UNIT_DECIMALS, "a price in USD per one unit")
    if pico < 0:
        raise ValueError("a price must not be negative")
    return pico


def format_usd(nano: int) -> str:
    """Nano-USD -> decimal USD with four to nine decimals: ``0.0040``, ``12.5000``, ``-0.000000001``."""
    return _formatted(nano, _NANO_DECIMALS, 4)


def format_price(pico: int) -> str:
    """Pico-USD per unit -> decimal USD per 1M units, with at least two decimals: ``0.15``, ``0.0375``."""
    return _formatted(pico, _PICO_DECIMALS, 2)


def format_unit_price(pico: int) -> str:
    """Pico-USD per unit -> decimal USD per ONE unit, with at least two decimals: ``0.04``, ``0.0001``."""
    return _formatted(pico, _UNIT_DECIMALS, 2)


def _scaled(value: str | int | Decimal, decimals: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"{what} must be a decimal number written as text, not {type(value).__name__}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{what} must be a decimal number, not {value!r}") from None
    if not number.is_finite() or abs(number) > _USD_MAX:
        raise ValueError(f"{what} must be at most {_USD_MAX}")
    scaled = number.scaleb(decimals)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{what} has more than {decimals} decimals")
    return int(scaled)


def _formatted(amount: int, decimals: int, least: int) -> str:
    digits = str(abs(amount)).zfill(decimals + 1)
    fraction = digits[-decimals:].rstrip("0").ljust(least, "0")
    return f"{'-' if amount < 0 else ''}{digits[:-decimals]}.{fraction}"

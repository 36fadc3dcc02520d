"""The fields of the catalogue's forms: text as people write it in, whole numbers out, and its JSON schema. Pure.

Money is decimal text in USD. A whole number is taken, too, for it is exact in every reader; a number with a point is
not, unless the reader kept its digits (TOML here does, JSON elsewhere does not).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from ledger.money import format_price, format_unit_price, format_usd, parse_price, parse_unit_price, parse_usd

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
"""The lengths of windows that have a name."""

PPM = 1_000_000

_SECONDS_MAX = 366 * 86_400
# Larger than any price asked for today by orders of magnitude, small enough that no product overflows BIGINT.
_PICO_MAX = 10**12
_UNIT_PICO_MAX = 10**15
_TOKENS_MAX = 1_000_000_000
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_CHARS_MAX = 4096
_CREDENTIALS = frozenset(("authorization", "proxy-authorization", "cookie"))
_WORDS = {seconds: word for word, seconds in SECONDS.items()}


def usd(value: Any) -> int:
    """An amount in USD that is not below zero -> nano-USD. Raises ValueError."""
    nano = parse_usd(value)
    if nano < 0:
        raise ValueError("must not be negative")
    return nano


def _pico(value: Any) -> int:
    pico = parse_price(value)
    if pico > _PICO_MAX:
        raise ValueError("is beyond a million USD per 1M units")
    return pico


def _unit_pico(value: Any) -> int:
    pico = parse_unit_price(value)
    if pico > _UNIT_PICO_MAX:
        raise ValueError("is beyond a thousand USD for ONE unit (and not for a million of them)")
    return pico


def ppm(value: Any) -> int:
    """A decimal factor -> millionths. Raises ValueError."""
    try:
        millionths = Decimal(value) * PPM if type(value) in (str, int, Decimal) else Decimal("NaN")
        whole = int(millionths)
    except (ArithmeticError, ValueError):
        raise ValueError('must be a decimal factor written as text, like "1.2"') from None
    if whole != millionths or not 0 <= whole <= 1000 * PPM:
        raise ValueError("must be a factor from 0 to 1000 with at most six decimals")
    return whole


def factor_text(ppm: int) -> str:
    """Millionths -> the decimal factor: ``1.2``."""
    return format(Decimal(ppm).scaleb(-6).normalize(), "f")


def _seconds(value: Any) -> int:
    seconds = SECONDS.get(value, value) if isinstance(value, str) else value
    if type(seconds) is not int or not 1 <= seconds <= _SECONDS_MAX:
        raise ValueError(f"must be one of {', '.join(SECONDS)} or a whole number of seconds up to a year")
    return seconds


def per_text(seconds: int) -> str | int:
    """The length of a window by its name where it has one."""
    return _WORDS.get(seconds, seconds)


def _number(value: Any) -> Any:
    if type(value) not in (int, float, Decimal):
        raise ValueError("must be a number of seconds")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):
        raise ValueError("is not a time zone of the IANA list, like Europe/Berlin") from None
    return value


def _web_address(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be an http:// or https:// address")
    if url.port == 0:
        raise ValueError("must not name the port 0")
    if url.username or url.password:
        raise ValueError("must not hold a password; name the variable that has the key in api_key_env")
    return value


def _base_address(value: str) -> str:
    url = urlsplit(_web_address(value))
    if url.query or url.fragment:
        raise ValueError("must not hold a query or a fragment: paths are put behind it")
    return value.rstrip("/")


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in _CREDENTIALS:
            raise ValueError(f"{name} is written by the gateway; name the variable that has the key in api_key_env")
        if not (text.isascii() and text.isprintable() and len(text) <= _HEADER_CHARS_MAX):
            raise ValueError(f"the value of {name} must be printable ASCII of at most {_HEADER_CHARS_MAX} characters")
    return {name.lower(): text for name, text in value.items()}


def _decimal(digits: int, decimals: int, title: str) -> WithJsonSchema:
    text = {"type": "string", "pattern": rf"^[0-9]{{1,{digits}}}(\.[0-9]{{1,{decimals}}})?$"}
    return WithJsonSchema({"title": title, "anyOf": [text, {"type": "integer", "minimum": 0}]}, mode="validation")


def _decimal_out(title: str) -> WithJsonSchema:
    return WithJsonSchema({"title": title, "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}, mode="serialization")


Usd = Annotated[int, BeforeValidator(usd), PlainSerializer(format_usd, str), _decimal(7, 9, "USD"), _decimal_out("USD")]
"""An amount; nano-USD inside."""

Pico = Annotated[
    int,
    BeforeValidator(_pico),
    PlainSerializer(format_price, str),
    _decimal(6, 6, "USD per 1M"),
    _decimal_out("USD per 1M"),
]
"""A price per 1M units; pico-USD per unit inside."""

UnitPico = Annotated[
    int,
    BeforeValidator(_unit_pico),
    PlainSerializer(format_unit_price, str),
    _decimal(3, 12, "USD for one"),
    _decimal_out("USD for one"),
]
"""A price for ONE unit; pico-USD inside."""

Ppm = Annotated[
    int, BeforeValidator(ppm), PlainSerializer(factor_text, str), _decimal(3, 6, "Factor"), _decimal_out("Factor")
]
"""A decimal factor; millionths inside."""

_PER_SCHEMA = {
    "title": "Period",
    "anyOf": [{"type": "string", "enum": [*SECONDS]}, {"type": "integer", "minimum": 1, "maximum": _SECONDS_MAX}],
}
Per = Annotated[int, BeforeValidator(_seconds), PlainSerializer(per_text, str | int), WithJsonSchema(_PER_SCHEMA)]
"""The length of a window: a word, or seconds."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
"""What others refer to: without white space."""

Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A title or another short text; may be empty."""

Prose = Annotated[str, Field(max_length=8000, pattern=r"^[^\x00]*$")]
"""A text of several lines; may be empty."""

Patterns = Annotated[tuple[Name, ...], Field(max_length=256)]
"""Names of models, with ``*``, ``?`` and ``[…]`` as wildcards."""

Zone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]
Tokens = Annotated[int, Field(strict=True, ge=1, le=_TOKENS_MAX)]
Yes = Annotated[bool, Field(strict=True)]
Patience = Annotated[float, BeforeValidator(_number), Field(gt=0, le=86_400)] | None
Variable = Annotated[str, Field(max_length=200, pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")]
Headers = Annotated[dict[str, str], Field(max_length=64), AfterValidator(_headers)]

_ADDRESS_SCHEMA = {
    "title": "Web address",
    "type": "string",
    "format": "uri",
    "pattern": "^https?://",
    "maxLength": 2000,
}
WebAddress = Annotated[str, Field(max_length=2000), AfterValidator(_web_address), WithJsonSchema(_ADDRESS_SCHEMA)]
BaseAddress = Annotated[str, Field(max_length=2000), AfterValidator(_base_address), WithJsonSchema(_ADDRESS_SCHEMA)]

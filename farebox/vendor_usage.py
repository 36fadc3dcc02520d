"""Reads a vendor's usage export: rows of day, model, kind and amount, as CSV or as JSON lines. Pure.

Vendors count in sums of their own ("input_tokens" may hold the cached ones, or not), so a kind is read as a *measure*:
the kinds of ours that it is the sum of.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from ledger.usage import INPUT_KINDS, KINDS, OUTPUT_KINDS, TOKEN_KINDS

COLUMNS = ("day", "model", "kind", "amount")
_ROWS_MAX = 2_000_000
_AMOUNT_MAX = 10**18
_UNCACHED = ("input", "audio_in", "image_in")
_WRITES = ("cache_write", "cache_write_1h")

_MEASURES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("input_tokens", "prompt_tokens"), INPUT_KINDS),
    **dict.fromkeys(("uncached_input_tokens", "input_uncached_tokens"), _UNCACHED),
    **dict.fromkeys(("cached_tokens", "cached_input_tokens", "input_cached_tokens"), ("cache_read",)),
    **dict.fromkeys(("cache_read_input_tokens", "cache_read_tokens"), ("cache_read",)),
    **dict.fromkeys(("cache_creation_input_tokens", "cache_write_tokens"), _WRITES),
    "ephemeral_5m_input_tokens": ("cache_write",),
    "ephemeral_1h_input_tokens": ("cache_write_1h",),
    **dict.fromkeys(("input_audio_tokens", "audio_input_tokens"), ("audio_in",)),
    **dict.fromkeys(("input_image_tokens", "image_input_tokens"), ("image_in",)),
    **dict.fromkeys(("output_tokens", "completion_tokens"), OUTPUT_KINDS),
    **dict.fromkeys(("reasoning_tokens", "output_reasoning_tokens"), ("reasoning",)),
    **dict.fromkeys(("output_audio_tokens", "audio_output_tokens"), ("audio_out",)),
    **dict.fromkeys(("total_tokens", "tokens"), TOKEN_KINDS),
    **dict.fromkeys(("web_search_requests", "num_web_searches"), ("web_searches",)),
    "num_images": ("images",),
    "num_seconds": ("seconds",),
    "num_characters": ("characters",),
    **{kind: (kind,) for kind in KINDS},
}
# Who reports these counts cached tokens beside "input_tokens", not in it (Anthropic).
_BESIDE = {
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
}
_INPUT = ("input_tokens", "prompt_tokens")


class VendorUsageError(ValueError):
    """The file cannot be read as an export; the message says where and why."""


class Key(NamedTuple):
    """One figure of the export: a UTC day, the vendor's name of the model, and the kinds of ours it is the sum of."""

    day: date
    model: str
    kinds: tuple[str, ...]


@dataclass(slots=True)
class VendorUsage:
    """The export: its figures, what each measure is called there, and what was not understood."""

    amounts: dict[Key, Decimal] = field(default_factory=dict)
    names: dict[tuple[str, ...], str] = field(default_factory=dict)
    unknown_columns: set[str] = field(default_factory=set)
    unknown_kinds: set[str] = field(default_factory=set)


class _Row(NamedTuple):
    day: date
    model: str
    kind: str
    amount: Decimal


def read_vendor_usage(lines: Iterable[str]) -> VendorUsage:
    """The export in these lines; amounts of the same figure are added up. Raises VendorUsageError."""
    usage = VendorUsage()
    rows = [_row(number, row) for number, row in _rows(lines, usage.unknown_columns)]
    if not rows:
        raise VendorUsageError("has no rows")
    measures = _measures({row.kind for row in rows})
    for row in rows:
        kinds = measures.get(row.kind)
        if kinds is None:
            usage.unknown_kinds.add(row.kind)
            continue
        usage.names.setdefault(kinds, row.kind)
        key = Key(row.day, row.model, kinds)
        usage.amounts[key] = usage.amounts.get(key, Decimal(0)) + row.amount
    return usage


def _measures(kinds: set[str]) -> Mapping[str, tuple[str, ...]]:
    return _MEASURES | dict.fromkeys(_INPUT, _UNCACHED) if kinds & _BESIDE else _MEASURES


def _rows(lines: Iterable[str], unknown: set[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Numbered rows with the known columns alone; JSON where the first line begins with a brace."""
    lines = iter(lines)
    first = next((line for line in lines if line.strip()), "").removeprefix("\ufeff")
    read = _json_rows if first.lstrip().startswith("{") else _csv_rows
    for count, (number, row) in enumerate(read(_from(first, lines))):
        if count >= _ROWS_MAX:
            raise VendorUsageError(f"has more than {_ROWS_MAX} rows")
        missing = [column for column in COLUMNS if row.get(column) in (None, "")]
        if missing:
            raise VendorUsageError(f"line {number}: has no {', '.join(missing)}")
        unknown.update(str(column) for column in row if column not in COLUMNS)
        yield number, row


def _from(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                yield number, decoder.decode(line)
        except (msgspec.MsgspecError, ArithmeticError, RecursionError, UnicodeError) as error:
            raise VendorUsageError(f"line {number}: is not a JSON object: {error}") from None


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(lines)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if missing := [column for column in COLUMNS if column not in header]:
            raise VendorUsageError(f"has no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
        for cells in reader:
            if cells:
                yield reader.line_num, dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise VendorUsageError(f"line {reader.line_num}: {error}") from None


def _row(number: int, row: Mapping[str, Any]) -> _Row:
    try:
        kind = str(row["kind"]).strip().lower()
        return _Row(_day(str(row["day"]).strip()), str(row["model"]).strip(), kind, _amount(row["amount"]))
    except ValueError as error:
        raise VendorUsageError(f"line {number}: {error}") from None


def _day(text: str) -> date:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day like 2026-11-20") from None
    return (instant.astimezone(UTC) if instant.tzinfo else instant).date()


def _amount(value: Any) -> Decimal:
    try:
        amount = Decimal(value.strip() if isinstance(value, str) else value) if type(value) is not bool else None
    except (InvalidOperation, TypeError, ValueError):
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= _AMOUNT_MAX:
        raise ValueError(f"{value!r} is not an amount from 0 to {_AMOUNT_MAX}")
    return amount

"""What holds for every reply, however spoilt: nothing is raised but the documented error, no part and no charge is
below zero or absurd, every problem has a documented name, cutting changes nothing, nothing unsafe passes."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any, NamedTuple

import msgspec

from gateway import dialect
from gateway.meter import OF_ONE_CHOICE, Reading
from gateway.sse import LINE_BYTES_MAX, EventTooLarge
from gateway.surface import Meter, Request
from ledger.money import format_usd
from ledger.price import charge_amount
from ledger.usage import Usage
from tests.dialects.case import FACTOR_PPM, Case, letters, price, read
from tests.fuzz import inputs

PART_MAX = 64 * 128 * 100_000_000  # answers of a stream, pictures of an order, tokens that are believed of one
LIMITS = (LINE_BYTES_MAX, LINE_BYTES_MAX, LINE_BYTES_MAX, 700)
WORDS = frozenset(
    (
        *dialect._ALIASES,
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "image_gen",
        "seconds",
        "duration",
        "data",
        OF_ONE_CHOICE,
    )
)
"""The words of `problems`, which are the values of a metric's label; docs/metering.md tells each."""
_GUARDED = ("event", "selected_model_id")


class Outcome(NamedTuple):
    """What came of one reply that was relayed to its end."""

    passed: bytes
    reading: Reading
    reported: Usage | None
    variant: str
    failed: bool


def check(rng: random.Random) -> None:
    """One input, drawn and tried. Raises AssertionError or whatever escaped."""
    routes, found = _drawn()
    case, seed = rng.choice(found[rng.choice(routes)])
    kind = rng.random()
    if kind < 0.12:
        return check_usage(inputs.usage_object(rng), inputs.usage_object(rng))
    data = inputs.spoilt(rng, seed, rng.choice(found[rng.choice(routes)])[1])
    if case.whole or kind < 0.2:
        check_whole(case, data)
    else:
        check_stream(case, data, rng)


def check_usage(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two usage objects: apart, and as two reports of one call."""
    (first, problems), (second, _) = dialect.read(one), dialect.read(other)
    if first:
        report = dialect.disjoint(first, problems)
        _sound(Reading(report.usage, "reported", report.problems))  # type: ignore[arg-type]
    merged = dialect.disjoint(dialect.merge(first, second))
    assert merged == dialect.disjoint(dialect.merge(second, first)), "order must not count"
    _sound(Reading(merged.usage, "reported", merged.problems))  # type: ignore[arg-type]


def check_whole(case: Case, data: bytes) -> None:
    """A reply that was read whole."""
    meter = case.surface.whole(_request(case), data, "application/json", letters)
    _sound_meter(meter)


def check_stream(case: Case, data: bytes, rng: random.Random) -> None:
    """A reply relayed in one piece and in others: nothing differs but what a bound cuts off."""
    limit = rng.choice(LIMITS)
    whole = relayed(case, [data], limit)
    pieces = relayed(case, _pieces(rng, data), limit)
    assert (whole is None) == (pieces is None), "too large by one cut, and not by another"
    if whole is None or pieces is None:
        return
    assert pieces == whole, f"cutting changed it:\n{whole}\n{pieces}"
    _sound(whole.reading)
    assert len(whole.passed) <= 2 * len(data) + 1024
    if case.route != "audio.speech":  # what is taken for sound passes as it is
        _safe(whole.passed)


def relayed(case: Case, pieces: list[bytes], limit: int = LINE_BYTES_MAX) -> Outcome | None:
    """What comes of this reply; None where it broke the bound on lines and events."""

    def cost(usage: Usage) -> dict[str, Any]:
        return {"cost": format_usd(_charge(usage, tap.meter.variant)), "balance": "1.0000"}

    tap = case.surface.tap(_request(case), letters, cost, limit)
    try:
        passed = b"".join([*map(tap.feed, pieces), tap.close()]) + tap.terminal
    except EventTooLarge:
        _sound_meter(tap.meter)
        return None
    reading = _sound_meter(tap.meter)
    return Outcome(passed, reading, tap.meter.reported, tap.meter.variant, tap.failed)


def _pieces(rng: random.Random, data: bytes) -> list[bytes]:
    size = rng.choice((1, 2, 3, 7, 64, 300))
    if rng.random() < 0.5:
        return [data[at : at + size] for at in range(0, len(data), size)]
    at = rng.randrange(len(data) + 1)
    return [piece for piece in (data[:at], data[at : at + 1], data[at + 1 :]) if piece]


def _sound_meter(meter: Meter) -> Reading:
    reading = read(meter)
    _sound(reading)
    assert meter.estimate() >= 0 and len(meter.variant) <= 66
    _charge(reading.usage, meter.variant)
    return reading


def _sound(reading: Reading) -> None:
    parts = msgspec.structs.astuple(reading.usage)
    assert all(type(part) is int and 0 <= part <= PART_MAX for part in parts), reading
    assert WORDS.issuperset(reading.problems), reading.problems
    _charge(reading.usage, "")


def _charge(usage: Usage, variant: str) -> int:
    amount = charge_amount(usage, price(), FACTOR_PPM, variant)
    assert amount >= price().per_request, usage
    return amount


def _safe(passed: bytes) -> None:
    """No line, as a page reads it that splits at LF, is an object with a key that the page would act on."""
    if not any(name.encode() in passed for name in _GUARDED) and b"\\u" not in passed:
        return
    for line in passed.split(b"\n"):
        if line.startswith(b"data:"):
            value = _object(line[5:])
            assert not any(name in value for name in _GUARDED), line


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@cache
def _drawn() -> tuple[list[str], dict[str, list[tuple[Case, bytes]]]]:
    """Seeds by route: each route is drawn as often as any other, chats twice as often."""
    by_route: dict[str, list[tuple[Case, bytes]]] = {}
    for case, seed in inputs.seeds().values():
        by_route.setdefault(case.route, []).append((case, seed))
    return [*sorted(by_route), "chat.completions"], by_route


@cache
def _request_by(route: str, body: bytes, content_type: str) -> Request:
    return next(iter(case for case, _ in inputs.seeds().values() if case.route == route)).surface.parse(
        body, content_type
    )


def _request(case: Case) -> Request:
    body, content_type = case.asked()
    return _request_by(case.route, body, content_type)

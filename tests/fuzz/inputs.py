"""Seeds and what is done to them: replies as backends send them, spoilt in one to four ways by a seeded chance."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from tests.dialects import chat_cases, event_cases, hostile_cases, unit_cases
from tests.dialects.case import Case
from tests.dialects.recording import recordings

SEED_BYTES_MAX = 1500
INPUT_BYTES_MAX = 6000
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_NUMBERS = (
    b"-1",
    b"0",
    b"1e18",
    b"1000000000000000000",
    b"1e400",
    b"-0.0",
    b"2.5",
    b"1.0",
    b"NaN",
    b"-Infinity",
    b"null",
    b"true",
    b'"7"',
    b"[]",
    b"{}",
    b"100000000",
    b"100000001",
    b"9" * 400,
    b"131073",
)
_PIECES = (
    b"data: ",
    b"data:",
    b"data",
    b"event: x\n",
    b"event: message_start\n",
    b"id: 1\n",
    b": c\n",
    b"retry: 5\n",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\n" * 9,
    b"\r\n" * 40,
    b"\xef\xbb\xbf",
    b"[DONE]",
    b"data: [DONE]\n\n",
    b'"usage":',
    b'"usage":null,',
    b'{"error":{}}',
    b'"error":1,',
    b'"event":"x",',
    b'"selected_model_id":1,',
    b"\\u0065vent",
    b'"\\ud800"',
    b"\xff",
    b"\xc3",
    b"\xe4\xb8",
    b"\x00",
    b"\x0b",
    b"\xe2\x80\xa8",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"[" * 700,
    b'{"a":' * 400,
    b'"type":"response.created",',
    b'"type":"message_stop",',
    b'"type":"response.completed",',
    b'"total_tokens":1e9,',
    b'"cached_tokens":99,',
    b'"reasoning_tokens":-5,',
    b'"service_tier":"flex",',
)
_MEMBERS = (
    b'"event":"x",',
    b'"selected_model_id":1,',
    b'"\\u0065vent":1,',
    b'"error":{"code":1},',
    b'"error":null,',
    b'"usage":null,',
    b'"usage":{"prompt_tokens":5,"completion_tokens":7},',
    b'"usage":{"total_tokens":-1},',
    b'"service_tier":"flex",',
    b'"type":"message_start",',
    b'"type":"response.created",',
    b'"type":"response.completed",',
    b'"type":"message_stop",',
    b'"id":"other",',
    b'"choices":[],',
    b'"choices":7,',
    b'"delta":"x",',
    b'"response":{"usage":{"input_tokens":9}},',
    b'"x":' + b"[" * 600 + b"]" * 600 + b",",
    b'"reasoning_tokens":99,',
    b'"cached_tokens":99,',
    b'"\\ud800":1,',
)
_STARTS = (
    b"\n" * 9,
    b"\r\n",
    b"\r",
    b"\xef\xbb\xbf",
    b": c\n",
    b"id: 1\n",
    b"data:\n",
    b"data: {\n",
    b" ",
    b"{",
    b"\x00",
)
_NAMES = (
    "prompt_tokens",
    "input_tokens",
    "completion_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "prompt_tokens_details",
    "input_tokens_details",
    "completion_tokens_details",
    "output_tokens_details",
    "cache_creation",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_write_tokens",
    "audio_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "cache_write_tokens_details",
    "ttl_12h",
    "image_tokens",
    "reasoning_tokens",
    "thinking_tokens",
    "server_tool_use",
    "web_search_requests",
    "num_search_queries",
    "seconds",
    "type",
)
_VALUES: tuple[Any, ...] = (
    0,
    1,
    5,
    7,
    12,
    100,
    1000,
    131_072,
    131_073,
    10**8,
    10**8 + 1,
    10**18,
    10**40,
    -1,
    -(10**18),
    2.5,
    12.0,
    1e300,
    float("nan"),
    float("inf"),
    "7",
    "",
    None,
    True,
    False,
    [],
    [1],
    "tokens",
)


@cache
def seeds() -> dict[str, tuple[Case, bytes]]:
    """Every dialect's reply and every recording's beginning and end, by name."""
    cases = [*chat_cases.CASES, *event_cases.CASES, *unit_cases.CASES, *hostile_cases.CASES]
    found = {f"{case.route}: {case.name}": (case, case.sent()[-SEED_BYTES_MAX:]) for case in cases}
    for recording in recordings():
        case = next(case for case in cases if case.route == recording.route and not case.whole)
        sent = recording.sent()
        found[recording.name] = (case, sent[: SEED_BYTES_MAX // 2] + sent[-SEED_BYTES_MAX // 2 :])
    return found


def spoilt(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """The seed after one to four changes; `other` is what may be spliced into it."""
    data = seed
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_CHANGES)(rng, data, other)
    return data[:INPUT_BYTES_MAX]


def usage_object(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A usage object of any names and values."""
    return {
        rng.choice(_NAMES): usage_object(rng, depth + 1) if depth < 3 and rng.random() < 0.2 else rng.choice(_VALUES)
        for _ in range(rng.randint(0, 8))
    }


def _flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = 0 if rng.random() < 0.2 else rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_PIECES) + data[at:]


def _member(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A member more at the beginning of some object: unlike most changes it leaves JSON that can be read."""
    opened = [spot.end() for spot in re.finditer(rb"\{(?=\")", data)]
    if not opened:
        return data
    at = rng.choice(opened)
    return data[:at] + rng.choice(_MEMBERS) + data[at:]


def _start(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return b"".join(rng.choices(_STARTS, k=rng.randint(1, 3))) + data


def _remove(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randint(1, 40) :]


def _number(rng: random.Random, data: bytes, other: bytes) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    spot = rng.choice(found[-40:])
    return data[: spot.start()] + rng.choice(_NUMBERS) + data[spot.end() :]


def _lines(rng: random.Random, data: bytes, other: bytes) -> bytes:
    lines = data.splitlines(True) or [b""]
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines) + 1)
    line = lines[at] if rng.random() < 0.5 else lines.pop(at)
    return b"".join([*lines[:to], line, *lines[to:]])


def _newlines(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"")))


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _usage(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Every usage object becomes another one."""
    return re.sub(rb'"usage": ?\{[^{}]*\}', lambda _: b'"usage":' + json.dumps(usage_object(rng)).encode(), data)


_CHANGES: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    _flip,
    _insert,
    _member,
    _start,
    _remove,
    _number,
    _number,
    _lines,
    _newlines,
    _splice,
    _cut,
    _usage,
)

"""The short form of `make fuzz`: spoilt replies, always the same; and what readers keep of endless ones."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from gateway.sse import EventTooLarge
from tests.dialects.case import Case
from tests.dialects.test_dialects import STREAMS
from tests.fuzz.properties import WORDS
from tests.fuzz.run import tried

INPUTS = 15_000
FLOOD_BYTES = 512 * 1024
EVENT_BYTES_MAX = 128 * 1024
KEPT_BYTES_MAX = 1536 * 1024  # held lines weigh more than their bytes; what is kept does not follow the flood
FIRST = {case.route: case for case in reversed(STREAMS)}
DOCUMENT = Path(__file__).parents[2] / "docs" / "metering.md"


def test_spoilt_replies_break_nothing() -> None:
    wrong = [said for number in range(INPUTS) if (said := tried(number))]
    assert not wrong, "\n".join(wrong[:3])


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
@pytest.mark.parametrize(
    "piece",
    [
        b'data: {"type":"x","choices":[{"delta":{"content":"word "}}]}\n\n',
        b"data: {,\n",
        b": a comment that keeps the line alive\n",
    ],
)
def test_an_endless_reply_is_not_kept(case: Case, piece: bytes) -> None:
    block = piece * (8 * 1024 // len(piece))
    tap = case.surface.tap(case.request(), len, lambda usage: None, EVENT_BYTES_MAX)
    tracemalloc.start()
    try:
        for _ in range(FLOOD_BYTES // len(block)):
            tap.feed(block)
    except EventTooLarge:
        pass  # an event that does not end is refused at its bound
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < KEPT_BYTES_MAX


def test_every_word_for_a_problem_is_documented() -> None:
    page = DOCUMENT.read_text("utf-8").split("\n## Problems\n")[1].split("\n## ")[0]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    documented = {word.strip("` ") for row in rows for word in row.split("|")[1].split(",")}
    assert documented == WORDS

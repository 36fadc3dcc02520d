"""Recorded streams, cut up in every way, reach the caller unchanged and are charged as their usage says.

The recordings beside the tests always run; a folder named by FAREBOX_TRANSCRIPTS adds its `chat.*.jsonl`. What is
expected is computed here, from the recording alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.backend import Backend, cut_up, events
from tests.backend import stream as script
from tests.house import Caller, Farebox
from tests.streams import HELLO_TOKENS, SMALL, stream, tokens

_HERE = Path(__file__).parents[1] / "recordings"
_LONG = 20_000
_ADDED = re.compile(rb',"cost":"[0-9.]+","balance":"[0-9.]+"')


def _recordings() -> list[Path]:
    found = sorted(_HERE.glob("*.jsonl"))
    if named := os.environ.get("FAREBOX_TRANSCRIPTS"):
        found += sorted(Path(named).glob("chat.*.jsonl"))
    return found


async def test_recordings_pass_unchanged_and_cost_what_they_say(farebox: Farebox, backend: Backend) -> None:
    paths = _recordings()
    assert len(paths) >= 7
    for path in paths:
        lines = [line.encode() for line in path.read_text().splitlines()]
        ada = await farebox.caller(usd="1000.00", name=path.stem)
        replays = 0
        for newline in (b"\n", b"\r\n", b"\r"):
            replays += await _replayed(farebox, backend, ada, lines, newline, path.stem)
        charges = await farebox.charges(ada.user.id)
        assert len(charges) == replays, path.stem
        assert {charge["amount"] for charge in charges} == {_cost(lines)}, path.stem
        source = "reported" if _last_usage(lines) else "counted"
        assert {charge["usage_source"] for charge in charges} == {source}, path.stem
    assert not await farebox.broken()


async def _replayed(
    farebox: Farebox, backend: Backend, ada: Caller, lines: list[bytes], newline: bytes, stem: str
) -> int:
    """Every cut, to a caller who asked for usage and to one who did not; how many calls that were."""
    calls = 0
    sent = events(lines, newline)
    shown = events([line for line in lines if not _is_usage_only(line)], newline)
    for name, pieces in _cuts(sent, newline):
        backend.answer = script(pieces)
        for asked in (True, False):
            options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked else {}
            async with stream(farebox, ada, **options) as reply:
                body = await reply.read()
            assert _ADDED.sub(b"", body) == (sent if asked else shown), f"{stem}, {newline!r}, {name}, asked: {asked}"
            calls += 1
    return calls


def _cuts(sent: bytes, newline: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The stream whole, in sevens, inside each character and line end; the short ones byte by byte, too."""
    yield "whole", [sent]
    if len(sent) > _LONG and newline != b"\n":
        return  # a long one in one spelling only, to be done within seconds
    yield "sevens", cut_up(sent, 7) if len(sent) < _LONG else cut_up(sent, 701)
    yield "inside", list(filter(None, re.split(rb"(?<=[\xc0-\xff])|(?<=\r)", sent)))
    yield "bytes", cut_up(sent, 1)


def _is_usage_only(line: bytes) -> bool:
    value = json.loads(line)
    return bool(value.get("usage")) and not value.get("choices")


def _last_usage(lines: list[bytes]) -> dict[str, Any] | None:
    reports = [report for line in lines if (report := json.loads(line).get("usage"))]
    return reports[-1] if reports else None


def _cost(lines: list[bytes]) -> int:
    """Nano-USD at the prices of the model "small"; what a total holds beyond its parts is output."""
    report = _last_usage(lines)
    if report is None:
        deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
        return HELLO_TOKENS * SMALL["input"] + SMALL["output"] * tokens("".join(d.get("content", "") for d in deltas))
    cached: int = (report.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    prompt: int = report["prompt_tokens"]
    output: int = report["total_tokens"] - prompt
    return (prompt - cached) * SMALL["input"] + cached * SMALL["cache_read"] + output * SMALL["output"]

"""Recorded streams of every kind, cut up in every way, reach the caller unchanged and are charged as their usage says.

What is expected is worked out from the recording alone (`tests/dialects/recording.py`, which also says where they are).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from ledger.usage import Usage
from tests import house
from tests.backend import Backend, cut_up
from tests.backend import stream as script
from tests.dialects.case import MARKED, NEWLINES, Case, cost_of
from tests.dialects.priced import TIER, catalog, model_of
from tests.dialects.recording import Recording, recordings
from tests.house import Caller, Farebox
from tests.streams import HELLO_TOKENS, tokens

_LONG = 20_000
_ADDED = re.compile(rb',"cost":"[0-9.]+","balance":"[0-9.]+"')
_INPUTS = {"chat.completions": HELLO_TOKENS, "completions": tokens("Once")}
"""Tokens of the usual request, where nobody reports them."""


@pytest.fixture
async def primed(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """A Farebox with another prime as the price of each kind."""
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=catalog()) as running:
        yield running


async def test_recordings_pass_unchanged_and_cost_what_they_say(primed: Farebox, backend: Backend) -> None:
    found = recordings()
    assert {recording.route for recording in found} == {"chat.completions", "completions", "responses", "messages"}
    for recording in found:
        ada = await primed.caller(tier=TIER, usd="1000.00", name=recording.path.stem)
        replays = 0
        for newline in NEWLINES:
            replays += await _replayed(primed, backend, ada, recording, newline)
        charges = await primed.charges(ada.user.id)
        reported = recording.usage
        usage = _counted(recording) if reported is None else reported
        assert len(charges) == replays, recording.name
        assert {charge["amount"] for charge in charges} == {cost_of(usage, recording.variant)}, recording.name
        source = "counted" if reported is None else "reported"
        assert {charge["usage_source"] for charge in charges} == {source}, recording.name
    assert not await primed.broken()


async def _replayed(farebox: Farebox, backend: Backend, ada: Caller, recording: Recording, newline: bytes) -> int:
    """Every cut, where one can ask for usage also to a caller who did not; how many calls that were."""
    calls = 0
    sent = recording.sent(newline)
    for name, pieces in _cuts(sent, newline):
        backend.answer = script(pieces)
        for asked in (True, False) if recording.route in MARKED else (True,):
            shown = sent if asked else recording.sent(newline, hides_usage=True)
            body = await _called(farebox, ada, recording.route, asked)
            assert _ADDED.sub(b"", body) == shown, f"{recording.name}, {newline!r}, {name}, asked: {asked}"
            calls += 1
    return calls


async def _called(farebox: Farebox, ada: Caller, route: str, asked: bool) -> bytes:
    case = Case("", route, Usage(), ())
    body, _ = case.asked(model_of(case.surface.kind))
    if not asked:
        body = msgspec.json.encode({**msgspec.json.decode(body), "stream_options": None})
    return (await farebox.post(f"/v1{case.surface.path}", body, ada)).body


def _cuts(sent: bytes, newline: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The stream whole, in sevens, inside each character and line end; the short ones byte by byte, too."""
    yield "whole", [sent]
    if len(sent) > _LONG and newline != b"\n":
        return  # a long one in one spelling only, to be done within seconds
    yield "sevens", cut_up(sent, 7) if len(sent) < _LONG else cut_up(sent, 701)
    yield "inside", list(filter(None, re.split(rb"(?<=[\xc0-\xff])|(?<=\r)", sent)))
    if len(sent) < _LONG:
        yield "bytes", cut_up(sent, 1)


def _counted(recording: Recording) -> Usage:
    return Usage(input=_INPUTS[recording.route], output=tokens(recording.text))

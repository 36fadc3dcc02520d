"""Speech: charged by characters, or by tokens where events tell them; sound is passed on unread."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fields import BadRequest
from gateway.meter import Reading
from gateway.speech import SURFACE, RawTap, SpeechRequest, SpeechTap, foresee, parse, tap, whole
from gateway.units import UnitMeter
from ledger.usage import Usage, UsageSource
from tests.gateway.words import MODEL, Words, words

TEXT = "Grüezi 👋 you"
KNOWN = Usage(characters=12)
DELTA = b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'
DONE = b'data: {"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}\n\n'
SOUNDS = {
    "mp3": b"ID3\4" + random.Random(1).randbytes(500),
    "wav": b"RIFF\0\0\0\0WAVE" + random.Random(2).randbytes(500),
    "one byte": b"x",
    "silence": bytes(5_000),
    "samples like a comment": b":" + bytes(5_000),
    "samples like a line end": b"\r\n\n" + random.Random(3).randbytes(500),
}


def request(**more: Any) -> SpeechRequest:
    return parse(json.dumps({"model": "m", "voice": "alloy", "input": TEXT, **more}).encode(), "application/json")


def tapped(event_bytes_max: int = 1000, **more: Any) -> SpeechTap:
    return tap(request(**more), words, lambda usage: None, event_bytes_max)


def passed(stream: SpeechTap, body: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cuts), len(body)]
    now = b"".join(stream.feed(body[start:end]) for start, end in itertools.pairwise(edges) if start < end)
    return now + stream.close() + stream.terminal


def test_characters_are_code_points_and_not_bytes() -> None:
    found = request()
    assert (found.known, found.stream, found.features) == (KNOWN, False, frozenset({"audio"}))
    assert request(stream_format="sse").stream
    assert not request(stream_format="audio").stream


async def test_characters_are_foreseen_and_tokens_too_for_a_price_by_those() -> None:
    assert await foresee(request(), MODEL, Words()) == Usage(characters=12, input=3)


@pytest.mark.parametrize("wrong", [{"input": ""}, {"input": None}, {"input": ["a"]}, {"model": None}])
def test_what_cannot_be_read_aloud_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        request(**wrong)


@pytest.mark.parametrize("sound", SOUNDS.values(), ids=SOUNDS)
@given(cuts=st.lists(st.integers(0, 40), max_size=5))
def test_sound_passes_byte_for_byte_and_costs_its_characters(sound: bytes, cuts: list[int]) -> None:
    stream = tapped()
    assert passed(stream, sound, [min(cut, len(sound)) for cut in cuts]) == sound
    assert (stream.done, stream.failed) == (False, False)
    assert stream.meter.reported == KNOWN
    assert stream.meter.reading(0, 0) == Reading(KNOWN, UsageSource.COUNTED)


def test_before_the_first_byte_nothing_is_owed() -> None:
    stream = tapped()
    assert stream.close() == b""
    assert stream.meter.reported is None


def test_a_raw_way_hands_on_the_very_bytes() -> None:
    way, sound = RawTap(UnitMeter(KNOWN)), SOUNDS["mp3"]
    assert way.feed(sound) is sound
    assert (way.close(), way.terminal, way.done, way.failed) == (b"", b"", False, False)


@given(cuts=st.lists(st.integers(0, len(DELTA + DONE)), max_size=5))
def test_events_pass_and_their_tokens_are_charged_as_sound_instead_of_characters(cuts: list[int]) -> None:
    stream = tapped(stream_format="sse")
    assert passed(stream, DELTA + DONE, cuts) == DELTA + DONE
    assert (stream.done, stream.failed) == (True, False)
    assert stream.meter.reading(0, 0) == Reading(Usage(input=14, audio_out=101), UsageSource.REPORTED)


@pytest.mark.parametrize("blank", [b"\n" * 9, b"\r\n" * 20, b"\xef\xbb\xbf" + b"\n" * 9])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_behind_blank_lines_are_events_however_they_are_cut(blank: bytes, size: int) -> None:
    stream, sent = tapped(), blank + DELTA + DONE
    assert passed(stream, sent, list(range(0, len(sent), size))) == sent
    assert stream.meter.reading(0, 0) == Reading(Usage(input=14, audio_out=101), UsageSource.REPORTED)


def test_the_last_event_waits() -> None:
    stream = tapped()
    assert stream.feed(DELTA) == DELTA
    assert stream.feed(DONE) == b""
    assert stream.terminal == DONE


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\r\n", b"id: 1\n", b"event: speech.audio.delta\n"])
def test_events_are_guarded_whether_or_not_they_were_asked_for(start: bytes) -> None:
    stream = tapped()
    assert b"execute" not in passed(stream, start + b'data: {"event":"execute","x":1}\n\n', [3])


def test_a_comment_begins_events_that_were_asked_for() -> None:
    stream = tapped(stream_format="sse")
    assert b"execute" not in passed(stream, b': ping\n\ndata: {"event":"execute","x":1}\n\n', [])


def test_events_without_usage_cost_the_characters() -> None:
    stream = tapped()
    passed(stream, DELTA + b'data: {"type":"speech.audio.done"}\n\n', [])
    assert stream.meter.reading(0, 0) == Reading(KNOWN, UsageSource.COUNTED)


def test_a_whole_reply_is_metered_by_its_usage_or_by_the_characters() -> None:
    reply = b'{"audio":"AAAA","usage":{"input_tokens":1,"output_tokens":2}}'
    assert whole(request(), reply, "application/json", words).reading(0, 0).usage == Usage(input=1, audio_out=2)
    for odd in (b"", b"[]", b"\xff\xfb\x90", b'{"usage":7}', b'{"usage":{"input_tokens":-1}}'):
        assert whole(request(), odd, "audio/mpeg", words).reading(0, 0).usage == KNOWN


def test_the_surface_renames_the_model() -> None:
    assert (SURFACE.path, SURFACE.kind) == ("/audio/speech", "speech")
    assert json.loads(SURFACE.rewrite(request(), "inner", 5)[:])["model"] == "inner"

"""Transcription: tokens or seconds as told, else the playing time of the reply or of the file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.duration import SECONDS_MAX, UNKNOWN_BYTES_PER_S
from gateway.fields import BadRequest
from gateway.meter import Reading
from gateway.multipart import parse as parse_form
from gateway.transcription import (
    AUDIO_TOKENS_PER_S,
    SURFACES,
    TranscriptionRequest,
    foresee,
    parse,
    rewrite,
    tap,
    whole,
)
from ledger.usage import Usage, UsageSource
from tests.gateway.forms import CONTENT_TYPE, Afar, file, form, part
from tests.gateway.test_duration import wav
from tests.gateway.words import MODEL, Words, words

SOUND = wav(2.5)
HEARD = Reading(Usage(seconds=3), UsageSource.COUNTED)
TOKENS = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 45,
    "total_tokens": 59,
}
DELTA = b'data: {"type":"transcript.text.delta","delta":"I see"}\n\n'


def request(*more: bytes, sound: bytes = SOUND) -> TranscriptionRequest:
    return parse(form(part("model", b"m"), file("file", sound), *more), CONTENT_TYPE)


def reading(reply: Any, *more: bytes) -> Reading:
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return whole(request(*more), body, "application/json", words).reading(99, 99)


def done(**more: Any) -> bytes:
    return b"data: " + json.dumps({"type": "transcript.text.done", "text": "I see", **more}).encode() + b"\n\n"


def test_a_form_with_one_file_is_read() -> None:
    found = request(part("prompt", b"a name"), part("stream", b"true"), part("response_format", b"srt"))
    assert (found.model, found.stream, found.response_format, found.text_bytes) == ("m", True, "srt", 6)
    assert (found.known, found.features, found.n) == (Usage(seconds=3), frozenset({"audio"}), 1)


async def test_seconds_are_foreseen_and_tokens_too_for_a_price_by_those() -> None:
    foreseen = await foresee(request(part("prompt", b"a name")), MODEL, Words())
    assert foreseen == Usage(input=2, audio_in=3 * AUDIO_TOKENS_PER_S, seconds=3)


BAD = {
    "no file": form(part("model", b"m")),
    "a file elsewhere": form(part("model", b"m"), file("sound", SOUND)),
    "two files": form(part("model", b"m"), file("file", SOUND), file("file", SOUND)),
    "a file beside": form(part("model", b"m"), file("file", SOUND), file("other", SOUND)),
    "no model": form(file("file", SOUND)),
    "two models": form(part("model", b"m"), part("model", b"n"), file("file", SOUND)),
    "an odd flag": form(part("model", b"m"), part("stream", b"maybe"), file("file", SOUND)),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_form_that_is_not_one_sound_for_one_model_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(body, CONTENT_TYPE)


def test_tokens_are_charged_as_told() -> None:
    usage = Usage(input=4, audio_in=10, output=45)
    assert reading({"text": "a", "usage": TOKENS}) == Reading(usage, UsageSource.REPORTED)
    named_as_elsewhere = {
        "input_tokens_details" if key == "input_token_details" else key: TOKENS[key] for key in TOKENS
    }
    assert reading({"text": "a", "usage": named_as_elsewhere}).usage == usage


def test_seconds_are_charged_as_told_and_begun_ones_count() -> None:
    told = {"text": "a", "usage": {"type": "duration", "seconds": 9.01}}
    assert reading(told) == Reading(Usage(seconds=10), UsageSource.REPORTED)
    assert reading({"usage": {"seconds": 0}}) == Reading(Usage(), UsageSource.REPORTED)


def test_the_duration_of_a_verbose_reply_is_the_fall_back() -> None:
    assert reading({"text": "a", "duration": 8.47}) == Reading(Usage(seconds=9), UsageSource.REPORTED)
    assert reading({"text": "a", "duration": "8.47"}).usage == Usage(seconds=9)
    assert reading({"duration": 8.47, "usage": TOKENS}).usage == Usage(input=4, audio_in=10, output=45)


@pytest.mark.parametrize("hostile", [-1, 1e18, "x", "nan", True, [], {}, SECONDS_MAX + 1, "9" * 40])
def test_a_hostile_time_is_dropped_and_marked(hostile: Any) -> None:
    assert reading({"duration": hostile}) == HEARD._replace(problems=("duration",))
    assert reading({"usage": {"type": "duration", "seconds": hostile}}) == HEARD._replace(problems=("seconds",))


@pytest.mark.parametrize("odd", [{}, [], {"usage": 4}, b"", b"NaN", b'{"duration":NaN}', b"\xff", b"[" * 10_000])
def test_a_reply_that_tells_nothing_costs_the_playing_time_of_the_file(odd: Any) -> None:
    assert reading(odd) == HEARD


@pytest.mark.parametrize("name", [b"text", b"srt", b"vtt"])
def test_what_was_said_is_never_taken_for_a_usage(name: bytes) -> None:
    assert reading({"usage": {"type": "duration", "seconds": 0}}, part("response_format", name)) == HEARD


def test_the_time_of_a_file_that_does_not_tell_is_an_estimate_and_never_nothing() -> None:
    unknown = request(sound=bytes(4 * UNKNOWN_BYTES_PER_S))
    assert whole(unknown, b"", "", words).reading(0, 0) == Reading(Usage(seconds=4), UsageSource.ESTIMATED)
    assert request(sound=b"").known == Usage(seconds=1)


def test_pieces_pass_and_the_whole_text_waits() -> None:
    stream, last = tap(request(), words, lambda usage: None, 1000), done(usage=TOKENS)
    assert stream.feed(DELTA) == DELTA
    assert stream.meter.reported == Usage(seconds=3)
    assert stream.feed(last) == b""
    assert (stream.done, stream.terminal) == (True, last)
    assert stream.meter.reading(0, 0).usage == Usage(input=4, audio_in=10, output=45)


def test_a_stream_that_tells_nothing_costs_the_playing_time() -> None:
    stream = tap(request(), words, lambda usage: None, 1000)
    assert stream.feed(DELTA + done()) + stream.close() == DELTA + done()
    assert stream.meter.reading(0, 0) == HEARD


def test_the_form_goes_on_with_another_model_and_the_same_sound() -> None:
    changed = parse_form(rewrite(request(), "inner", 5), CONTENT_TYPE)
    assert changed.text("model") == "inner"
    assert changed.content(changed.files[0])[:] == SOUND


def test_a_form_on_disk_stays_there_and_under_the_same_name_goes_on_as_it_is() -> None:
    body = Afar(form(file("file", wav(20)), part("model", b"m")))
    found = parse(body, CONTENT_TYPE)
    looked_at = body.taken
    assert (found.known, found.length.exact) == (Usage(seconds=20), True)
    assert rewrite(found, "m", None) is body
    assert len(rewrite(found, "inner", None)) == len(body) + 4
    assert body.taken == looked_at


def test_transcriptions_and_translations_are_metered_alike() -> None:
    assert [surface.path for surface in SURFACES] == ["/audio/transcriptions", "/audio/translations"]
    assert {(surface.kind, surface.whole) for surface in SURFACES} == {("transcription", whole)}


ODD = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)


@given(st.dictionaries(st.sampled_from([*TOKENS, "seconds"]), ODD), ODD)
def test_no_reply_raises_or_costs_less_than_nothing(usage: dict[str, Any], duration: Any) -> None:
    found = reading({"usage": usage, "duration": duration})
    assert min(found.usage.parts().values(), default=0) >= 0

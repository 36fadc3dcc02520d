"""What the story of a call asks of any surface, every surface offers: none need be known apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.catalog import Model
from gateway.errors import Refusal
from gateway.fields import BadRequest
from gateway.meter import Reading
from gateway.surface import Envelope, Meter, Request, Surface, Tap
from gateway.surfaces import SURFACES
from ledger.usage import KINDS
from tests.gateway.forms import CONTENT_TYPE, file, form, part
from tests.gateway.words import MODEL, Words, words

# One body for the JSON routes (Responses would take `prompt` for one kept at the vendor), one form for the others.
FIELDS = {
    "model": "m",
    "messages": [{"role": "user", "content": "hello"}],
    "input": "hello",
    "query": "hello",
    "documents": ["one", "two"],
    "max_tokens": 9,
}
JSON = "application/json"
FORM = (form(part("model", b"m"), part("prompt", b"hello"), file("file", b"RIFF")), CONTENT_TYPE)
EVERY = pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.route)


def taken(surface: Surface) -> tuple[bytes, str]:
    """The body this surface reads, with its content type."""
    if surface.form:
        return FORM
    more = {"prompt": "hello"} if surface.route == "completions" else {}
    return json.dumps({**FIELDS, **more}).encode(), JSON


def asked(surface: Surface) -> Any:
    return surface.parse(*taken(surface))


def missing(value: object, wanted: type) -> set[str]:
    """Names that the protocol has and the value has not."""
    return {name for name in dir(wanted) if not name.startswith("_") and not hasattr(value, name)}


@EVERY
def test_a_request_tells_what_admission_asks(surface: Surface) -> None:
    request = asked(surface)
    assert not missing(request, Request)
    assert (request.model, request.stream) == ("m", False)
    assert request.n == 1 and request.text_bytes >= 0 and isinstance(request.features, frozenset)


@EVERY
def test_a_backend_reads_the_same_request_under_its_own_name_of_the_model(surface: Surface) -> None:
    _, content_type = taken(surface)
    again = surface.parse(surface.rewrite(asked(surface), "other", None), content_type)
    assert again.model == "other"
    assert surface.parse(surface.rewrite(again, "m", None), content_type).text_bytes == asked(surface).text_bytes


def test_the_routes_whose_body_is_a_form_say_so() -> None:
    forms = {surface.route for surface in SURFACES if surface.form}
    assert forms == {"audio.transcriptions", "audio.translations", "images.edits"}


@pytest.mark.parametrize("surface", [each for each in SURFACES if each.has_output], ids=lambda each: each.route)
def test_a_bound_is_told_where_the_output_is_words(surface: Surface) -> None:
    request = asked(surface)
    told = surface.rewrite(request, "m", 3) != surface.rewrite(request, "m", None)
    assert told is (surface.route in ("chat.completions", "completions", "responses", "messages"))


@EVERY
async def test_what_is_foreseen_is_never_output(surface: Surface) -> None:
    request = asked(surface)
    foreseen = await surface.foresee(request, MODEL, Counted())
    assert foreseen.output_tokens == 0 and foreseen.web_searches == 0
    assert await surface.count(request, MODEL, Counted()) >= foreseen.input


class Counted(Words):
    """Takes any whole request for seven tokens."""

    async def estimate(self, request: Any, model: Model) -> int:
        return 7

    async def exact(self, request: Any, model: Model) -> int:
        return 7


@EVERY
@pytest.mark.parametrize("reply", [b"", b"{}", b"[]", b"null", b"<html>", b"\xff\xfe", b"[" * 50_000])
def test_no_reply_is_too_odd_for_its_meter(surface: Surface, reply: bytes) -> None:
    meter = surface.whole(asked(surface), reply, JSON, words)
    assert not missing(meter, Meter)
    _makes_sense(meter)


@EVERY
def test_a_tap_passes_what_it_does_not_know_and_meters_it(surface: Surface) -> None:
    relay = surface.tap(asked(surface), words, lambda usage: None, 10_000)
    assert not missing(relay, Tap) and not missing(relay.meter, Meter)
    stream = b': hello\n\ndata: {"type":"unheard.of","x":1}\n\n'
    assert relay.feed(stream[:20]) + relay.feed(stream[20:]) + relay.close() + relay.terminal == stream
    assert not relay.failed
    _makes_sense(relay.meter)


def _makes_sense(meter: Meter) -> None:
    assert meter.estimate() >= 0 and isinstance(meter.text(), str) and isinstance(meter.variant, str)
    meter.anchor(0)
    reading = meter.reading(5, 0)
    assert isinstance(reading, Reading) and all(getattr(reading.usage, kind) >= 0 for kind in KINDS)


@EVERY
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"model":""}', b"--x\r\n", b"{" * 5000])
@pytest.mark.parametrize("content_type", [JSON, CONTENT_TYPE, ""])
def test_a_body_that_cannot_be_metered_is_a_bad_request(surface: Surface, body: bytes, content_type: str) -> None:
    with pytest.raises(BadRequest):
        surface.parse(body, content_type)


@EVERY
def test_its_envelope_says_a_refusal_in_every_place(surface: Surface) -> None:
    envelope: Envelope = surface.envelope
    refusal = Refusal.of("insufficient_balance", "No money.")
    status, headers, body = envelope.reply(refusal, "id-1")
    assert (status, dict(headers)[b"content-type"]) == (402, b"application/json")
    assert json.loads(body)["error"]["code"] == "insufficient_balance"
    for said in (envelope.event(refusal, "id-1"), envelope.cut("m", refusal, "id-1")):
        assert b"insufficient_balance" in said and said.endswith(b"\n\n")


def test_a_surface_is_charged_and_has_output_unless_it_says_otherwise() -> None:
    chat = SURFACES[0]
    plain = Surface(**{name: getattr(chat, name) for name in Surface.__slots__[:10]})
    assert (plain.has_output, plain.free, plain.reply) == (True, False, "json")
    assert (plain.reopens, plain.form) == (False, False)

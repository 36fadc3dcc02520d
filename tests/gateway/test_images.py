"""Pictures: by tokens where they are told, else one by one at the price of their size and quality."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.fields import BadRequest
from gateway.images import (
    SURFACES,
    EditRequest,
    GenerationRequest,
    foresee,
    parse_edit,
    parse_generation,
    rewrite_edit,
    tap,
    variant,
    whole,
)
from gateway.meter import Reading
from gateway.multipart import parse as parse_form
from gateway.units import UnitMeter, UnitTap
from ledger.usage import Usage, UsageSource
from policies.estimate import IMAGE_UNKNOWN_TOKENS
from tests.gateway.forms import CONTENT_TYPE, file, form, part
from tests.gateway.words import MODEL, Words, words

USAGE = {
    "total_tokens": 100,
    "input_tokens": 50,
    "output_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
TOKENS = Usage(input=10, image_in=40, output=50)
PICTURE = {"b64_json": "AAAA"}
PARTIAL = b'data: {"type":"image_generation.partial_image","b64_json":"AAAA","partial_image_index":0}\n\n'


def request(**more: Any) -> GenerationRequest:
    return parse_generation(json.dumps({"model": "m", "prompt": "a red cat", **more}).encode(), "application/json")


def edit(*more: bytes) -> EditRequest:
    parts = part("model", b"m"), part("prompt", b"a red cat"), file("image[]", b"\x89PNG"), file("mask", b"\x89PNG")
    return parse_edit(form(*parts, *more), CONTENT_TYPE)


def metered(reply: Any, **more: Any) -> UnitMeter:
    return whole(request(**more), json.dumps(reply).encode(), "application/json", words)


def tapped(**more: Any) -> UnitTap:
    return tap(request(**more), words, lambda usage: None, 1000)


def completed(kind: str = "generation", **more: Any) -> bytes:
    return b"data: " + json.dumps({"type": f"image_{kind}.completed", **more}).encode() + b"\n\n"


def test_an_order_is_read_from_json() -> None:
    found = request(n=2, size="1024x1024", quality="hd", stream=True)
    assert (found.model, found.n, found.stream, found.text_bytes) == ("m", 2, True, 9)
    assert (found.order.size, found.order.quality, found.order.given) == ("1024x1024", "hd", 0)


def test_an_order_is_read_from_a_form() -> None:
    found = edit(part("n", b"2"), part("size", b"512x512"), part("stream", b"true"))
    assert (found.model, found.n, found.stream, found.text_bytes) == ("m", 2, True, 9)
    assert (found.order.size, found.order.given, found.features) == ("512x512", 2, frozenset({"images"}))


async def test_pictures_are_foreseen_and_tokens_too_for_a_price_by_those() -> None:
    assert await foresee(request(n=2), MODEL, Words()) == Usage(input=3, images=2)
    assert await foresee(edit(), MODEL, Words()) == Usage(input=3, image_in=2 * IMAGE_UNKNOWN_TOKENS, images=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"n": 129},
        {"n": "2"},
        {"size": 5},
        {"prompt": ["a"]},
        {"model": None},
        {"output_format": "svg"},
        {"svg": {}},
    ],
    ids=str,
)
def test_an_order_that_cannot_be_metered_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        request(**wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", "0"),
        ("n", "1e3"),
        ("stream", "perhaps"),
        ("output_format", "svg"),
        ("svg[model]", "x"),
        ("model", "twice"),
    ],
)
def test_a_form_that_cannot_be_metered_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadRequest):
        edit(part(name, value.encode()))


def test_an_edit_that_is_no_form_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse_edit(b'{"model":"m"}', "application/json")


@pytest.mark.parametrize(
    ("size", "quality", "name"),
    [
        ("1024x1024", "hd", "1024x1024/hd"),
        ("1024x1024", "standard", "1024x1024"),
        (" 1024X1024 ", "auto", "1024x1024"),
        ("auto", "high", "high"),
        ("", None, ""),
        (None, 7, ""),
        ("1024x1024/hd", "a" * 33, ""),
        ("1024\nx", "\ud800", ""),
    ],
)
def test_a_variant_names_what_is_unusual(size: object, quality: object, name: str) -> None:
    assert variant(size, quality) == name


def test_reported_tokens_are_charged_and_have_no_variant() -> None:
    meter = metered({"data": [PICTURE], "usage": USAGE, "size": "1024x1024", "quality": "high"})
    assert meter.reading(0, 0) == Reading(TOKENS, UsageSource.REPORTED)
    assert meter.variant == ""


def test_without_tokens_the_pictures_that_came_are_charged() -> None:
    meter = metered({"data": [PICTURE, PICTURE]}, n=3, size="1024x1024", quality="hd")
    assert meter.reading(0, 0) == Reading(Usage(images=2), UsageSource.COUNTED)
    assert meter.variant == "1024x1024/hd"


def test_the_reply_knows_better_what_size_was_made() -> None:
    assert metered({"data": [PICTURE], "size": "1536x1024", "quality": "high"}, size="auto").variant == "1536x1024/high"


def test_no_more_pictures_are_charged_than_were_asked_for() -> None:
    reading = metered({"data": [PICTURE] * 5}, n=2).reading(0, 0)
    assert reading == Reading(Usage(images=2), UsageSource.COUNTED, ("data",))


@pytest.mark.parametrize("reply", [[], {"data": {}}, {"data": None}, {"usage": []}, "no", None])
def test_a_reply_that_cannot_be_read_costs_what_was_asked_for(reply: Any) -> None:
    assert metered(reply, n=2, size="512x512").reading(0, 0).usage == Usage(images=2)
    assert metered(reply, n=2, size="512x512").variant == "512x512"


def test_a_reply_without_pictures_costs_none() -> None:
    assert metered({"data": []}).reading(0, 0) == Reading(Usage(), UsageSource.COUNTED)


def test_hostile_tokens_are_dropped_and_marked() -> None:
    reading = metered({"data": [PICTURE], "usage": {"input_tokens": -1, "output_tokens": 1e30}}).reading(0, 0)
    assert reading == Reading(Usage(images=1), UsageSource.COUNTED, ("prompt", "completion"))


@pytest.mark.parametrize("kind", ["generation", "edit"])
def test_unfinished_pictures_pass_and_the_finished_one_waits(kind: str) -> None:
    stream, last = tapped(stream=True), completed(kind, usage=USAGE)
    assert stream.feed(PARTIAL) == PARTIAL
    assert stream.meter.reported is None
    assert stream.feed(last) == b""
    assert (stream.done, stream.terminal) == (True, last)
    assert stream.meter.reading(0, 0) == Reading(TOKENS, UsageSource.REPORTED)


def test_each_of_several_pictures_in_a_stream_is_charged() -> None:
    stream = tapped(n=2)
    assert stream.feed(completed(usage=USAGE)) == completed(usage=USAGE)
    stream.feed(completed(usage=USAGE))
    assert stream.done
    assert stream.meter.reading(0, 0).usage == Usage(input=20, image_in=80, output=100)


def test_a_stream_without_usage_costs_the_pictures_asked_for() -> None:
    stream = tapped(size="512x512")
    assert stream.feed(completed()) + stream.close() == completed()
    assert stream.meter.reading(0, 0) == Reading(Usage(images=1), UsageSource.COUNTED)
    assert stream.meter.variant == "512x512"


def test_both_surfaces_rename_the_model_and_leave_the_pictures_as_they_are() -> None:
    generations, edits = SURFACES
    assert (generations.path, edits.path) == ("/images/generations", "/images/edits")
    assert json.loads(generations.rewrite(request(), "inner", None)[:])["model"] == "inner"
    sent = edit()
    changed = parse_form(rewrite_edit(sent, "inner", None), CONTENT_TYPE)
    assert (changed.text("model"), changed.files[0].size) == ("inner", 4)
    assert edits.rewrite(sent, "m", 7) is sent.form.body

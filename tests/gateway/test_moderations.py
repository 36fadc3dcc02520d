"""Moderation: passed on, never charged by usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.fields import BadRequest
from gateway.meter import Reading
from gateway.moderations import SURFACE, foresee, parse, tap, whole
from ledger.usage import Usage, UsageSource
from tests.gateway.words import MODEL, Words, words

NOTHING = Reading(Usage(), UsageSource.REPORTED)


def body(given: Any, model: Any = "m") -> bytes:
    return json.dumps({"model": model, "input": given}).encode()


@pytest.mark.parametrize("given", ["a", ["a", "b"], [{"type": "text", "text": "a"}]])
async def test_texts_and_parts_are_taken_and_cost_nothing(given: Any) -> None:
    request = parse(body(given), "application/json")
    assert request.text_bytes == len(json.dumps(given))
    assert await foresee(request, MODEL, Words()) == Usage()
    reply = b'{"results":[{"flagged":true}],"usage":{"total_tokens":9}}'
    assert whole(request, reply, "application/json", words).reading(5, 5) == NOTHING


@pytest.mark.parametrize("given", [None, 1, {"type": "text"}])
def test_what_is_no_text_is_refused(given: Any) -> None:
    with pytest.raises(BadRequest):
        parse(body(given), "application/json")
    with pytest.raises(BadRequest):
        parse(body("a", model=None), "application/json")


def test_a_stream_passes_the_filter_and_costs_nothing() -> None:
    stream = tap(parse(body("a"), ""), words, lambda usage: None, 1000)
    assert stream.feed(b'data: {"event":1,"a":2}\n\n') == b'data: {"a":2}\n\n'
    assert stream.meter.reading(0, 0) == NOTHING


def test_the_surface_is_not_free_so_that_a_request_may_have_a_price() -> None:
    assert (SURFACE.path, SURFACE.kind, SURFACE.has_output, SURFACE.free) == (
        "/moderations",
        "moderation",
        False,
        False,
    )

"""Reranking: tokens as reported, else the query once with each document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.fields import BadRequest
from gateway.meter import Reading
from gateway.rerank import PAIRS_BYTES_MAX, SURFACE, RerankRequest, foresee, parse, tap, whole
from ledger.usage import Usage, UsageSource
from tests.gateway.words import MODEL, Words, words

RESULTS = [{"index": 0, "relevance_score": 0.9}]


def request(**more: Any) -> RerankRequest:
    asked = {"model": "m", "query": "which one", "documents": ["this one here", {"text": "or that"}], **more}
    return parse(json.dumps(asked).encode(), "application/json")


def reading(reply: Any) -> Reading:
    meter = whole(request(), json.dumps(reply).encode(), "application/json", words)
    return meter.reading(9, words(meter.text()))


def test_texts_and_objects_are_read_with_the_query_once_for_each() -> None:
    found = request()
    assert found.texts == ["which one", "which one", "this one here", "or that"]
    assert json.loads(found.input) == found.texts
    assert (found.model, found.stream, found.n, found.features) == ("m", False, 1, frozenset())


def test_an_object_without_a_text_is_read_whole() -> None:
    assert request(documents=[{"title": "a", "text": None}]).documents == ('{"title":"a","text":null}',)


async def test_the_tokens_are_foreseen() -> None:
    assert await foresee(request(), MODEL, Words()) == Usage(input=9)
    long = request(documents=["x" * 9_000])
    assert await foresee(long, MODEL, Words()) == Usage(input=2 * 9_009 // 3)


@pytest.mark.parametrize(
    ("reply", "usage"),
    [
        ({"results": RESULTS, "usage": {"total_tokens": 38}}, Usage(input=38)),
        ({"results": RESULTS, "usage": {"prompt_tokens": 38, "total_tokens": 38}}, Usage(input=38)),
        ({"results": RESULTS, "usage": {"total_tokens": 0}}, Usage()),
        (
            {"results": RESULTS, "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 38}}},
            Usage(input=38),
        ),
    ],
    ids=["jina", "vllm", "zero", "cohere"],
)
def test_reported_tokens_are_charged(reply: Any, usage: Usage) -> None:
    assert reading(reply) == Reading(usage, UsageSource.REPORTED)


@pytest.mark.parametrize(
    "reply",
    [
        {"results": RESULTS, "meta": {"billed_units": {"search_units": 1}}},
        {"results": RESULTS},
        {"usage": "much", "meta": [1]},
        [],
        RESULTS,
    ],
)
def test_without_tokens_our_count_is_charged(reply: Any) -> None:
    assert reading(reply) == Reading(Usage(input=9), UsageSource.COUNTED)


def test_hostile_tokens_are_dropped_and_marked() -> None:
    assert reading({"usage": {"total_tokens": -5}}) == Reading(Usage(input=9), UsageSource.COUNTED, ("total",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"query": None},
        {"query": ""},
        {"query": 1},
        {"documents": None},
        {"documents": []},
        {"documents": "a"},
        {"documents": [1]},
        {"model": ""},
        {"query": "x" * 100_000, "documents": ["a"] * (PAIRS_BYTES_MAX // 100_000 + 1)},
    ],
    ids=lambda wrong: str(wrong)[:30],
)
def test_what_cannot_be_ranked_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        request(**wrong)


def test_a_stream_passes_the_filter() -> None:
    stream = tap(request(), words, lambda usage: None, 1000)
    body = b'data: {"usage":{"total_tokens":4}}\n\n'
    assert stream.feed(body) == body
    assert stream.meter.reading(0, 0).usage == Usage(input=4)


def test_the_surface_reserves_no_output() -> None:
    assert (SURFACE.path, SURFACE.kind, SURFACE.has_output, SURFACE.free) == ("/rerank", "rerank", False, False)
    assert b'"inner"' in SURFACE.rewrite(request(), "inner", 3)[:]

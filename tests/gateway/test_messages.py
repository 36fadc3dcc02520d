"""Anthropic Messages: what may be asked, what goes to the backend, what its answers consume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.catalog import Model
from gateway.call import BadRequest
from gateway.counting import Counting
from gateway.messages import COUNT_SURFACE, SURFACE, MessageMeter, parse, parse_count, rewrite, whole_reply
from gateway.meter import Reading
from gateway.tokens import Tokenizers
from ledger.usage import Usage, UsageSource
from tests.gateway.test_events import event, framed, passed

HERE = Path(__file__).parent.parent / "recordings" / "messages"
MODEL = Model(id="m", upstream="u", upstream_model="claude")
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 4000}}
START = {"id": "a", "usage": {"input_tokens": 5, "output_tokens": 1}}


def body(**fields: Any) -> bytes:
    messages = [{"role": "user", "content": "Hello"}]
    return json.dumps({"model": "m", "max_tokens": 9, "messages": messages} | fields, separators=(",", ":")).encode()


def content(*parts: dict[str, Any]) -> bytes:
    return body(messages=[{"role": "user", "content": list(parts)}])


def text(words: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def test_a_plain_request_is_read() -> None:
    request = parse(body(stream=True))
    assert (request.model, request.stream, request.n, request.asked_output) == ("m", True, 1, 9)
    assert (request.include_usage, request.features) == (True, frozenset())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": "x"}, "messages"),
        ({"messages": [5]}, "messages"),
        ({"messages": [{"content": [5]}]}, "messages"),
        ({"system": [5]}, "system"),
        ({"tools": [5]}, "tools"),
        ({"model": ""}, "model"),
        ({"container": "container_1"}, "container"),
        ({"tools": [{"type": "code_execution_20250825"}]}, "tools"),
        ({"messages": [{"content": [{"type": "container_upload", "file_id": "f"}]}]}, "messages"),
        ({"messages": [{"content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]}, "messages"),
    ],
)
def test_a_wrong_or_kept_thing_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(body(**fields))
    assert caught.value.param == param


def test_a_file_is_found_wherever_a_part_may_stand() -> None:
    file = {"type": "image", "source": {"type": "file", "file_id": "f"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [file]}
    document = {"type": "document", "source": {"type": "content", "content": [file]}}
    for part in (result, document, {"type": "tool_result", "content": [document]}):
        with pytest.raises(BadRequest, match="file_id"):
            parse(content(part))


def test_a_tool_may_be_called_with_anything_and_a_search_result_has_an_address() -> None:
    called = {"type": "tool_use", "id": "t", "name": "f", "input": {"file_id": "x", "source": {"type": "file"}}}
    found = {"type": "search_result", "source": "https://example.com", "title": "T", "content": []}
    assert parse(content(called, found)).features == frozenset()


def test_features_are_found() -> None:
    request = parse(content(IMAGE, {"type": "tool_result", "content": [IMAGE]}))
    assert request.features == {"images"} and request.text_bytes < 600 and len(request.prompt.media.images) == 2
    assert parse(body(tools=[{"name": "f", "input_schema": {}}])).features == {"tools"}
    assert parse(body(tools=[{"type": "web_search_20250305", "name": "w"}])).features == {"tools", "web_search"}


def test_model_and_bound_are_exchanged_and_all_else_keeps_its_bytes() -> None:
    asked = body(temperature=0.10)
    assert rewrite(parse(asked), "m", None) is asked
    sent = rewrite(parse(asked), "up/m", 5)
    assert sent == asked.replace(b'"m"', b'"up/m"').replace(b'"max_tokens":9', b'"max_tokens":5')


@pytest.mark.parametrize(
    ("name", "usage", "variant"),
    [
        ("output-alone-at-the-end", Usage(input=25, output=15), ""),
        (
            "caches-by-time-to-live",
            Usage(input=7, cache_read=2000, cache_write=100, cache_write_1h=200, output=40),
            "priority",
        ),
        ("repeated-start", Usage(input=25, output=9), ""),
        ("zeros-at-the-start", Usage(input=31, cache_read=4, output=9), ""),
        ("thinking-and-search", Usage(input=900, output=80, web_searches=1), ""),
    ],
)
def test_recorded_streams_are_charged_what_they_report(name: str, usage: Usage, variant: str) -> None:
    _, reading, stream = passed([framed(HERE / f"{name}.jsonl")], meter := MessageMeter(len))
    assert reading == Reading(usage, UsageSource.REPORTED)
    assert (meter.sure, meter.variant, stream.done, meter.estimate()) == (True, variant, True, usage.output_tokens)


def test_caches_of_either_life_are_read_without_their_sum() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 30}}
    assert whole(usage) == Usage(input=1, cache_write=30, output=1)
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 30}
    assert whole(usage) == Usage(input=1, cache_write=30, output=1)


def whole(usage: dict[str, Any], *blocks: dict[str, Any]) -> Usage:
    reply = json.dumps({"type": "message", "content": list(blocks), "usage": usage}).encode()
    return whole_reply(parse(body()), reply, "application/json", len).reading(0, 0).usage


def test_fast_mode_is_a_variant_of_its_own() -> None:
    meter = MessageMeter(len)
    meter.take_whole({"usage": {"input_tokens": 1, "output_tokens": 1, "service_tier": "standard", "speed": "fast"}})
    assert meter.variant == "fast"


def test_an_answer_that_breaks_off_keeps_its_input_and_its_text_is_counted() -> None:
    meter = MessageMeter(len)
    passed([event("message_start", message=START) + text("Hello you")], meter)
    assert not meter.sure
    assert meter.reading(99, 9) == Reading(Usage(input=5, output=9), UsageSource.COUNTED)


def test_a_report_of_the_input_alone_does_not_speak_for_the_text() -> None:
    meter = MessageMeter(len)
    end = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 6})
    passed([event("message_start", message=START) + text("Hello you") + end], meter)
    assert meter.reading(99, 9) == Reading(Usage(input=6, output=9), UsageSource.COUNTED)


def test_without_usage_text_thinking_and_tool_calls_are_counted() -> None:
    blocks = (
        {"type": "thinking", "thinking": "ab", "signature": "A" * 99},
        {"type": "text", "text": "cd"},
        {"type": "tool_use", "id": "t", "name": "ef", "input": {"g": 1}},
    )
    meter = MessageMeter(len)
    meter.take_whole({"content": list(blocks)})
    assert meter.text() == 'abcdef{"g":1}'


def test_a_search_that_failed_is_not_charged_and_one_that_was_done_is() -> None:
    done = {"type": "web_search_tool_result", "content": []}
    failed = {"type": "web_search_tool_result", "content": {"type": "web_search_tool_result_error"}}
    assert whole({"input_tokens": 1, "output_tokens": 1}, done, failed).web_searches == 1


def test_a_reply_that_is_no_object_consumes_what_is_counted() -> None:
    meter = whole_reply(parse(body()), b"oops", "text/plain", len)
    assert meter.reading(3, 0) == Reading(Usage(input=3), UsageSource.COUNTED)


async def test_counting_tokens_is_free_and_needs_no_bound(tmp_path: Path) -> None:
    counting = Counting(Tokenizers({}))
    request = parse_count(body(max_tokens=None))
    assert await COUNT_SURFACE.foresee(request, MODEL, counting) == Usage()
    assert json.loads(rewrite(request, "up/m", 5))["max_tokens"] is None
    meter = COUNT_SURFACE.whole(request, b'{"input_tokens":5}', "application/json", len)
    assert (meter.sure, meter.reading(9, 9).usage, COUNT_SURFACE.free) == (True, Usage(), True)


async def test_input_is_counted_with_its_system_and_its_tools(tmp_path: Path) -> None:
    counting = Counting(Tokenizers.load(tmp_path))
    plain = (await SURFACE.foresee(parse(body()), MODEL, counting)).input
    more = (await SURFACE.foresee(parse(body(system="Be kind", tools=[{"name": "f"}])), MODEL, counting)).input
    assert 0 < plain == await SURFACE.count(parse(body()), MODEL, counting) < more

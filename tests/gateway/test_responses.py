"""OpenAI Responses: what may be asked, what goes to the backend, what its answers consume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.catalog import Model
from gateway.call import BadRequest
from gateway.counting import EXACT_BYTES_MAX, Counting
from gateway.meter import Reading
from gateway.prompt import ITEM_TOKENS
from gateway.responses import SURFACE, ResponseMeter, parse, rewrite, whole_reply
from gateway.tokens import Tokenizers
from ledger.usage import Usage, UsageSource
from tests.gateway.test_events import event, framed, passed

HERE = Path(__file__).parent.parent / "recordings" / "responses"
MODEL = Model(id="m", upstream="u", upstream_model="gpt-5")


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "Hello"} | fields, separators=(",", ":")).encode()


def content(*parts: dict[str, Any]) -> bytes:
    return body(input=[{"role": "user", "content": list(parts)}])


def test_a_plain_request_is_read_with_its_defaults() -> None:
    request = parse(body())
    assert (request.model, request.stream, request.n, request.asked_output) == ("m", False, 1, None)
    assert (request.include_usage, request.features, request.text_bytes) == (True, frozenset(), len('"Hello"""'))


def test_stream_and_bound_are_read() -> None:
    request = parse(body(stream=True, max_output_tokens=7, background=False, conversation=None))
    assert (request.stream, request.asked_output) == (True, 7)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"id": "msg_1"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}, "input"),
        ({"input": [{"type": "function_call_output", "output": [{"type": "input_image", "file_id": "f"}]}]}, "input"),
        ({"input": [{"type": "computer_call_output", "output": {"file_id": "f"}}]}, "input"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "tools"),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "tools"),
        ({"tools": [{"type": "shell", "environment": {"type": "container_auto", "x": "container"}}]}, "tools"),
        ({"tools": [{"type": "shell", "environment": {"type": "container_reference"}}]}, "tools"),
    ],
)
def test_what_would_be_kept_at_the_vendor_is_refused_in_one_sentence(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(body(**fields))
    assert caught.value.param == param
    assert "\n" not in caught.value.message and caught.value.message.endswith(".")


NO_INPUTS: list[Any] = [None, 5, {}, [5], [{"role": "user", "content": [5]}]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        *(({"input": wrong}, "input") for wrong in NO_INPUTS),
        *(({"tools": wrong}, "tools") for wrong in ("x", [5])),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"background": "yes"}, "background"),
        ({"model": None}, "model"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(body(**fields))
    assert caught.value.param == param


def test_a_function_may_have_parameters_of_any_name() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"properties": {"file_id": {}, "vector_store_ids": {}}}}
    assert parse(body(tools=[tool, {"type": "computer_use_preview", "environment": "browser"}])).features == {"tools"}


def test_features_are_found() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 4000, "detail": "low"}
    request = parse(content({"type": "input_text", "text": "x"}, image))
    assert request.features == {"images"} and request.text_bytes < 200
    assert parse(content({"type": "input_audio", "input_audio": {"data": "AAAA"}})).features == {"audio"}
    assert parse(body(tools=[{"type": "web_search_preview"}])).features == {"tools", "web_search"}
    assert parse(body(tools=[{"type": "image_generation"}])).features == {"tools", "images"}


def test_nothing_is_ever_stored() -> None:
    assert json.loads(rewrite(parse(body()), "m", None))["store"] is False
    assert json.loads(rewrite(parse(body(store=True)), "m", None))["store"] is False
    asked = body(store=False)
    request = parse(asked)
    assert rewrite(request, "m", None) is asked


def test_model_and_bound_are_exchanged_and_all_else_keeps_its_bytes() -> None:
    asked = body(store=False, temperature=0.10, max_output_tokens=900)
    sent = rewrite(parse(asked), "up/m", 12)
    assert sent == asked.replace(b'"m"', b'"up/m"').replace(b"900", b"12")


@pytest.mark.parametrize(
    ("name", "usage", "variant", "failed"),
    [
        (
            "cached-and-reasoning",
            Usage(input=450, cache_read=400, cache_write=50, output=20, reasoning=100),
            "flex",
            False,
        ),
        ("searches-counted-by-items", Usage(input=3000, output=50, reasoning=20, web_searches=2), "", False),
        ("searches-told", Usage(input=40, output=7, web_searches=3), "", False),
        ("incomplete", Usage(input=5, output=16), "", False),
        ("failed-after-error", Usage(input=5, output=9), "", True),
        ("two-answers", Usage(input=30, output=8), "", False),
    ],
)
def test_recorded_streams_are_charged_what_they_report(name: str, usage: Usage, variant: str, failed: bool) -> None:
    _, reading, stream = passed([framed(HERE / f"{name}.jsonl")], meter := ResponseMeter(len))
    assert reading == Reading(usage, UsageSource.REPORTED)
    assert (meter.sure, meter.variant, stream.failed, meter.estimate()) == (True, variant, failed, usage.output_tokens)


def test_a_whole_reply_is_charged_as_the_last_event_of_a_stream() -> None:
    for path in HERE.glob("*.jsonl"):
        last = json.loads(path.read_bytes().splitlines()[-1])["response"]
        whole = whole_reply(parse(body()), json.dumps(last).encode(), "application/json", len).reading(0, 0)
        streamed = ResponseMeter(len)
        passed([event("response.completed", response=last)], streamed)
        assert whole == streamed.reading(0, 0) and whole.usage.input_tokens > 0


def test_without_usage_every_kind_of_text_is_counted() -> None:
    kinds = ("output_text", "reasoning_text", "reasoning_summary_text", "refusal", "function_call_arguments")
    stream = b"".join(event(f"response.{kind}.delta", delta="ab") for kind in kinds)
    stream += event("response.output_item.added", item={"type": "function_call", "name": "fn"})
    stream += event("response.audio.delta", delta="A" * 999) + event("response.output_text.done", text="ab")
    meter = ResponseMeter(len)
    passed([stream], meter)
    assert (meter.text(), meter.sure, meter.estimate()) == ("ab" * 5 + "fn", False, 6)
    assert meter.reading(7, 12) == Reading(Usage(input=7, output=12), UsageSource.COUNTED)


def test_text_that_only_the_last_event_has_is_counted_once() -> None:
    output = [
        {"type": "reasoning", "summary": [{"text": "ab"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "cd"}, {"type": "refusal", "refusal": "ef"}]},
        {"type": "function_call", "name": "gh", "arguments": "{}"},
    ]
    last = event("response.completed", response={"id": "a", "output": output})
    alone, after = ResponseMeter(len), ResponseMeter(len)
    passed([last], alone)
    passed([event("response.output_text.delta", delta="abcdefgh{}") + last], after)
    assert sorted(alone.text()) == sorted(after.text())


def test_a_broken_stream_charges_the_searches_that_were_done() -> None:
    done = {"type": "web_search_call", "status": "completed"}
    reading = passed([event("response.output_item.done", item=done) * 2], ResponseMeter(len))[1]
    assert reading == Reading(Usage(web_searches=2), UsageSource.COUNTED)


@pytest.mark.parametrize(
    ("action", "searches"),
    [
        ({"type": "search", "query": "q"}, 1),
        ({"type": "open_page"}, 0),
        ({"type": "find_in_page"}, 0),
        ({}, 1),
        (None, 1),
    ],
)
def test_only_searching_is_a_search_where_the_action_is_told(action: Any, searches: int) -> None:
    item = {"type": "web_search_call", "status": "completed", "action": action}
    streamed = passed([event("response.output_item.done", item=item)], ResponseMeter(len))[1]
    body = json.dumps({"output": [item], "usage": {"input_tokens": 3, "output_tokens": 2}}).encode()
    assert streamed.usage.web_searches == searches
    assert whole_reply(parse(b'{"model":"m","input":"x"}'), body, "", len).reading(0, 0).usage == Usage(
        input=3, output=2, web_searches=searches
    )


def test_pictures_drawn_by_a_tool_are_marked_as_not_charged() -> None:
    told = {"usage": {"input_tokens": 1, "output_tokens": 1}, "tool_usage": {"image_gen": {"output_tokens": 9}}}
    assert passed([event("response.completed", response=told)], ResponseMeter(len))[1].problems == ("image_gen",)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Counting:
    return Counting(Tokenizers.load(tmp_path_factory.mktemp("vocabulary")))


async def test_input_is_counted_where_short_and_estimated_where_long(counting: Counting) -> None:
    short = await SURFACE.foresee(parse(body(instructions="Be kind")), MODEL, counting)
    assert short == Usage(input=len(["Hello", "\n", "Be", " kind"]) + 2 * ITEM_TOKENS)
    request = parse(body(input="word " * EXACT_BYTES_MAX))
    counted = await SURFACE.count(request, MODEL, counting)
    assert EXACT_BYTES_MAX < counted < (await SURFACE.foresee(request, MODEL, counting)).input

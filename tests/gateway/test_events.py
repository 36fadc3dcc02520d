"""Named event streams: unchanged but for what is named here, the last event held, whatever the cuts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.events import EventFilter, EventMeter, FreeMeter, decode, decode_object
from gateway.filter import TERMINAL_BYTES_MAX
from gateway.messages import MessageMeter
from gateway.meter import Reading
from gateway.responses import ResponseMeter
from gateway.sse import EventTooLarge
from ledger.usage import Usage, UsageSource
from tests.gateway.test_filter import HOSTILE as HOSTILE_LINES
from tests.gateway.test_filter import PIECES, guarded

HERE = Path(__file__).parent.parent / "recordings"
RECORDINGS = sorted([*HERE.glob("responses/*.jsonl"), *HERE.glob("messages/*.jsonl")])
ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def framed(recording: Path, end: bytes = b"\n") -> bytes:
    lines = recording.read_bytes().splitlines()
    return b"".join(
        b"event: " + json.loads(line)["type"].encode() + end + b"data: " + line + end + end for line in lines
    )


def meter_for(recording: Path) -> EventMeter:
    return ResponseMeter(len) if recording.parent.name == "responses" else MessageMeter(len)


def passed(parts: Iterable[bytes], meter: EventMeter, **more: Any) -> tuple[bytes, Reading, EventFilter]:
    stream = EventFilter(meter, **more)
    now = b"".join([stream.feed(part) for part in parts])
    now += stream.close()
    return now + stream.terminal, meter.reading(0, len(meter.text())), stream


def event(name: str, **more: Any) -> bytes:
    return f"event: {name}\n".encode() + b"data: " + json.dumps({"type": name, **more}).encode() + b"\n\n"


def answer(identity: str, output: int) -> bytes:
    usage = {"input_tokens": 1, "output_tokens": output}
    return event("response.created", response={"id": identity}) + event(
        "response.completed", response={"id": identity, "usage": usage}
    )


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_stream_passes_unchanged_at_every_cut(recording: Path, end: bytes) -> None:
    whole = framed(recording, end)
    expected = passed([whole], meter_for(recording))[:2]
    assert expected[0] == whole
    for cut in range(1, len(whole), 3):
        assert passed([whole[:cut], whole[cut:]], meter_for(recording))[:2] == expected
    assert passed((whole[at : at + 1] for at in range(len(whole))), meter_for(recording))[:2] == expected


@pytest.mark.parametrize("last", ["response.completed", "response.incomplete", "response.failed", "message_stop"])
def test_the_last_event_waits_with_its_name_and_what_follows(last: str) -> None:
    stream = EventFilter(ResponseMeter(len))
    before, end = event("ping"), event(last) + b"data: [DONE]\n\n"
    assert stream.feed(before + end) == before
    assert (stream.done, stream.terminal, stream.failed) == (True, end, last == "response.failed")


def test_a_name_waits_for_its_data_and_goes_with_it() -> None:
    stream = EventFilter(ResponseMeter(len))
    assert stream.feed(b"event: ping\n") == b""
    assert stream.feed(b'data: {"type":"ping"}\n\n') == event("ping").replace(b": {", b": {").replace(b'": "', b'":"')
    assert stream.feed(b"event: a") + stream.close() == b""


def test_another_answer_behind_the_last_event_takes_the_end_back() -> None:
    stream = EventFilter(ResponseMeter(len))
    assert stream.feed(answer("a", 2)) == event("response.created", response={"id": "a"})
    assert stream.done
    assert stream.feed(answer("b", 3)).endswith(event("response.created", response={"id": "b"}))
    assert stream.done
    assert stream.meter.reported == Usage(input=2, output=5)


def test_the_same_answer_told_again_is_not_counted_again() -> None:
    assert passed([answer("a", 2) * 3], ResponseMeter(len))[1].usage == Usage(input=1, output=2)


def test_nothing_begins_behind_the_end_mark() -> None:
    stream = EventFilter(ResponseMeter(len))
    stream.feed(b"data: [DONE]\n\n" + answer("b", 3))
    assert stream.terminal.startswith(b"data: [DONE]") and stream.terminal.endswith(answer("b", 3))


def test_keys_that_open_webui_acts_on_are_removed_from_any_event() -> None:
    for name in ("ping", "response.completed"):
        out = passed([event(name, event={"type": "execute"}, selected_model_id="x", kept=1)], ResponseMeter(len))[0]
        assert out == b"event: " + name.encode() + b'\ndata: {"type":"' + name.encode() + b'","kept":1}\n\n'


def test_a_name_that_hides_an_object_is_dropped_and_its_data_passes() -> None:
    name = 'event: x\u2028data: {"event":1}\n'.encode()
    assert passed([name + b'data: {"type":"ping"}\n\n'], ResponseMeter(len))[0] == b'data: {"type":"ping"}\n\n'


def test_an_unsafe_event_takes_its_name_with_it() -> None:
    unsafe = b'event: ping\ndata: {"type":"ping",\ndata: "event":NaN}\n\n'
    assert passed([unsafe + event("ping")], ResponseMeter(len))[0] == event("ping")


def test_data_over_several_lines_is_read_as_one_event() -> None:
    lines = (
        b'event: response.completed\ndata: {"type":"response.completed","response":\n'
        b'data: {"usage":{"input_tokens":3,"output_tokens":4}}}\n\n'
    )
    out, reading, stream = passed([lines], ResponseMeter(len))
    assert (out, reading.usage, stream.done) == (lines, Usage(input=3, output=4), True)


def test_cost_and_balance_are_inserted_into_the_final_usage_and_nothing_else_changes() -> None:
    def money(usage: Usage) -> dict[str, Any]:
        return {"cost": f"0.{usage.output}", "balance": "1.0"}

    inserted = b',"cost":"0.15","balance":"1.0"'
    whole = framed(HERE / "messages" / "output-alone-at-the-end.jsonl")
    out = passed([whole], MessageMeter(len), cost=money)[0]
    assert out == whole.replace(b'"output_tokens":15', b'"output_tokens":15' + inserted)
    whole = framed(HERE / "responses" / "incomplete.jsonl")
    out = passed([whole], ResponseMeter(len), cost=money)[0]
    assert out == whole.replace(b'"total_tokens":21', b'"total_tokens":21' + inserted.replace(b"15", b"16"))


def test_no_money_is_shown_where_none_is_to_be() -> None:
    whole = framed(RECORDINGS[0])
    assert passed([whole], meter_for(RECORDINGS[0]), cost=lambda _: None)[0] == whole


def test_an_error_event_marks_the_stream_failed() -> None:
    told = event("error", error={"type": "overloaded_error", "message": "x"})
    out, _, stream = passed([told], MessageMeter(len))
    assert (out, stream.failed, stream.done) == (told, True, False)


def test_a_large_last_event_is_kept_whole_and_endless_ones_are_not() -> None:
    large = event("response.completed", response={"output": ["x" * 4 * TERMINAL_BYTES_MAX]})
    assert passed([large], ResponseMeter(len))[0] == large
    stream = EventFilter(ResponseMeter(len), event_bytes_max=1000)
    for _ in range(500):
        stream.feed(event("response.completed") + b": " + b"x" * 900 + b"\n\n")
    assert len(stream.terminal) <= 1000 + TERMINAL_BYTES_MAX


def test_an_event_over_its_bound_is_refused() -> None:
    with pytest.raises(EventTooLarge):
        EventFilter(ResponseMeter(len), event_bytes_max=100).feed(b"data: " + b"x" * 200 + b"\n")


HOSTILE = [-1, 10**18, "9", 1.5, None, True, [], {}, "NaN"]


@pytest.mark.parametrize("meter", [ResponseMeter, MessageMeter])
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_values_of_the_wrong_kind_never_raise_nor_charge_less_than_nothing(meter: type[EventMeter], value: Any) -> None:
    names = ("response", "message", "delta", "item", "content_block", "usage", "error")
    inner = dict.fromkeys(("id", "usage", "service_tier", "tool_usage", "output", "content", "name", "input"), value)
    usage = {"input_tokens": value, "output_tokens": value, "cache_creation": value, "server_tool_use": value}
    stream = b"".join(
        event(kind, **dict.fromkeys(names, told))
        for kind in ("response.created", "message_start", "content_block_start", "response.completed", "message_delta")
        for told in (value, inner, {"usage": usage, "tool_usage": {"web_search": {"num_requests": value}}})
    )
    usage_read = passed([stream + event("", type=value)], meter(len))[1].usage
    assert all(0 <= amount <= 10**9 for amount in usage_read.parts().values())


MONEY = b'"usage":{"input_tokens":2,"output_tokens":1}'
NAMED = [
    *(
        b"event: ",
        b"event: ping\n",
        b"event: x\r",
        b'event: {"event":1}',
        b'{"type":"ping"}',
        b'{"type":"ping","event":1}',
    ),
    *(b'"type":"message_stop"', b'{"type":"message_start","message":{"id":"a"}}', b'{"type":"message_stop"}\n\n'),
    b'data: {"type":"message_delta","delta":{"stop_reason":"x"},' + MONEY + b"}\n\n",
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    b'data: {"type":"response.completed","response":{' + MONEY + b"}}\r\r",
    b'data: {"type":"response.created","response":{"id":"b"}}\n',
]


@pytest.mark.parametrize("meter", [ResponseMeter, MessageMeter])
@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(st.one_of(PIECES, st.sampled_from(NAMED)), max_size=16), cuts=st.sets(st.integers(1, 80)))
def test_any_stream_is_safe_and_reads_the_same_at_any_cut(
    meter: type[EventMeter], pieces: list[bytes], cuts: set[int]
) -> None:
    whole = b"".join(pieces)
    edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
    once = passed([whole], meter(len), cost=lambda _: {"cost": "1"})[:2]
    assert passed(parts, meter(len), cost=lambda _: {"cost": "1"})[:2] == once
    assert not guarded(once[0])


@pytest.mark.parametrize("name", [b"", b"event: x\n", b"event: x\r"])
@pytest.mark.parametrize("template", HOSTILE_LINES)
def test_no_way_of_writing_brings_a_guarded_key_to_open_webui(template: bytes, name: bytes) -> None:
    stream = name + template.replace(b"E", b'{"type":"execute"}')
    assert not guarded(passed([stream], ResponseMeter(len))[0])
    assert not guarded(passed((stream[at : at + 1] for at in range(len(stream))), ResponseMeter(len))[0])


def test_forgiving_json_is_read_as_a_forgiving_caller_reads_it() -> None:
    found = decode(b'{"type":"message_delta","usage":{"output_tokens":NaN},"event":1}')
    assert found is not None and (found.name, found.guarded) == ("message_delta", True)
    assert decode(b"{") is None
    assert decode_object(b'{"a":NaN}')["a"] != 0
    assert decode_object(b"[1]") == decode_object(b"{") == decode_object(b"[" * 100_000) == {}


def test_what_is_free_is_known_to_be_nothing() -> None:
    meter = FreeMeter()
    meter.anchor(5)
    assert (meter.sure, meter.variant, meter.estimate(), meter.text()) == (True, "", 0, "")
    assert meter.reading(5, 5) == Reading(Usage(), UsageSource.REPORTED)

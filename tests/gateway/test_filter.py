"""What reaches the caller of a stream: everything unchanged, but for four things that are named here."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.filter import HELD_LINES_MAX, TERMINAL_BYTES_MAX, StreamFilter
from gateway.meter import Reading, StreamMeter
from gateway.sse import EventTooLarge
from ledger.usage import Usage

RECORDINGS = sorted((Path(__file__).parent.parent / "recordings").glob("*.jsonl"))
ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
EVENT = b'{"type":"execute","data":{"code":"alert(1)"}}'


def framed(recording: Path, end: bytes) -> bytes:
    lines = recording.read_bytes().splitlines()
    return b"".join(b"data: " + line + end + end for line in [*lines, b"[DONE]"])


def passed(parts: Iterable[bytes], *, usage_wanted: bool = True, **more: Any) -> tuple[bytes, Reading, StreamFilter]:
    """What reached the caller in the end, what was metered, and the filter."""
    meter = StreamMeter(len)
    stream = StreamFilter(meter, usage_wanted=usage_wanted, **more)
    now = b"".join([stream.feed(part) for part in parts])
    now += stream.close()
    return now + stream.terminal, meter.reading(0, len(meter.text())), stream


def open_webui_objects(stream: bytes) -> list[dict[str, Any]]:
    """Read as Open WebUI does: lines at LF alone, each decoded and parsed by itself."""
    found = []
    for line in stream.split(b"\n"):
        text = line.decode("utf-8", "replace")
        if not text.startswith("data:"):
            continue
        try:
            value = json.loads(text[5:].strip())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def guarded(stream: bytes) -> bool:
    return any("event" in value or "selected_model_id" in value for value in open_webui_objects(stream))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_stream_passes_unchanged_at_every_cut(recording: Path, end: bytes) -> None:
    whole = framed(recording, end)
    expected = passed([whole])[:2]
    assert expected[0] == whole
    for cut in range(1, len(whole)):
        assert passed([whole[:cut], whole[cut:]])[:2] == expected
    assert passed(whole[at : at + 1] for at in range(len(whole)))[:2] == expected


def test_a_block_of_lines_with_nothing_to_alter_is_passed_without_a_copy() -> None:
    block = b'data: {"choices":[]}\n\n: ping\n\ndata: {"choices":[{"delta":{"content":"event"}}]}\n\n'
    assert StreamFilter(StreamMeter(len), usage_wanted=False).feed(block) is block


ALONE = [
    b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"one"}}]}\n',
    b'data: {"choices":[{"delta":{"content":"one"}}],"event":{"type":"x"}}\n\n',
    b'data: {"choices":[{"delta":{"content":"one"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
    b'data: {"choices":[{"delta":{"content":"on\re"}}]}\n\n',
    b'data: {"choices":[{"delta":\n{"content":"one"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"one"}}]\n\n',
    b'data: {"error":{"message":"no"}}\n\n',
    b"data: {" + b'"a":{' * 3000 + b"\n\n",
    b"\n\n",
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("before", ALONE, ids=range(len(ALONE)))
@pytest.mark.parametrize("after", ALONE, ids=range(len(ALONE)))
def test_an_event_that_comes_alone_is_read_as_byte_by_byte(before: bytes, after: bytes, wanted: bool) -> None:
    apart = [bytes([byte]) for byte in before + after]
    assert passed([before, after], usage_wanted=wanted)[:2] == passed(apart, usage_wanted=wanted)[:2]
    assert not guarded(passed([before, after])[0])


def test_a_whole_line_leaves_at_once_and_an_unfinished_one_waits() -> None:
    stream = StreamFilter(StreamMeter(len), usage_wanted=True)
    assert stream.feed(b'data: {"choices":[]}\ndata: {"ch') == b'data: {"choices":[]}\n'
    assert stream.feed(b'oices":[]}\n') == b'data: {"choices":[]}\n'


INNOCENT = [
    b"\xef\xbb\xbf" + b'data: {"choices":[]}\n\n',
    b": keep-alive\n\n",
    b'event: message\nid: 7\nretry: 10\ndata: {"a":1}\n\n',
    b'data:{"a":1}\n\n',
    b"data: plain text\n\n",
    b'data: {"choices":[{"delta":{"content":"{\\"event\\":1} selected_model_id"}}]}\n\n',
    b'data: {"a":{"event":1}}\n\n',
    b'data: {"a":"\\u0065vent"}\n\n',
    b'data: {"choices":[\ndata: ]}\n\n',
    b'data: {"choices":[\rdata: ]}\r\r',
    'data: {"a":"\u2028 event \u0085"}\n\n'.encode(),
    b'data: {"a":NaN,"b":"\\ud800"}\n\n',
    b'data: {"a":"\xff event"}\n\n',
    b"data\n\ndata:\n\n\n\n",
    b'data: ["event"]\n\n',
    b'data: {"choices":[]}',
    b'{"error":{"message":"no event"}}\n',
]


@pytest.mark.parametrize("stream", INNOCENT)
def test_an_innocent_stream_is_never_altered(stream: bytes) -> None:
    assert passed([stream])[0] == stream
    assert passed(stream[at : at + 1] for at in range(len(stream)))[0] == stream


def test_guarded_keys_are_taken_out_and_every_other_byte_stays() -> None:
    stream = b'data: {"id":"\\u00e9","event":' + EVENT + b',"choices":[{"delta":{"content": "a"}}]}\r\n\r\n'
    assert passed([stream])[0] == b'data: {"id":"\\u00e9","choices":[{"delta":{"content": "a"}}]}\r\n\r\n'
    assert passed([b'data: {"selected_model_id":"x"}\n\n'])[0] == b"data: {}\n\n"


HOSTILE = [
    b'data: {"event":E}\n\n',
    b'data: {"\\u0065vent":E}\n\n',
    b'data: {"a":NaN,"event":E}\n\n',
    b'data: {"a":"\xff","event":E}\n\n',
    b'data: {"a":"\\ud800","\\u0065vent":E}\n\n',
    b'data: {"a":1,\r"event":E}\n\n',
    b'data: {"a":1,\r\r"event":E}\n\n',
    b'data:\r{"event":E}\n\n',
    b'data:\r\r{"event":E}\n\n',
    b'data: \x0b\r{"event":E}\n\n',
    b'data: {\r\r\r"event":E\r}',
    b'data:   {"event":E}   \n\n',
    b'data: {"event":E}\x0b\n\n',
    'data: \u00a0{"event":E}\u2003\n\n'.encode(),
    b'data: {"event":1,"event":E}\n\n',
    b'data: {"x":\ndata: {"event":E}\ndata: }\n\n',
    b'data: x\ndata: {"event":E}\n\n',
    b'data: {"choices":5,"event":E}\n\n',
    b'data: {"event":E}',
    b'data: [DONE]\n\ndata: {"event":E}\n\n',
    b'data: {"selected_model_id":"x","a":NaN}\n\n',
    b'\n\ndata: {"event":E}\n',
]


@pytest.mark.parametrize("template", HOSTILE)
def test_no_way_of_writing_brings_a_guarded_key_to_open_webui(template: bytes) -> None:
    stream = template.replace(b"E", EVENT)
    assert guarded(stream), "the case must be one that Open WebUI would act on"
    assert not guarded(passed([stream])[0])
    assert not guarded(passed(stream[at : at + 1] for at in range(len(stream)))[0])


def test_data_lines_that_only_together_hold_a_guarded_key_become_one_line_without_it() -> None:
    stream = b'data: {"a":1,\ndata: "event":{}}\n\n'
    assert passed([stream])[0] == b'data: {"a":1}\n\n'


@pytest.mark.parametrize("line", [b'{"event":1}\n', b': x\xe2\x80\xa8data: {"event":1}\n', b'data:data:{"event":1}\n'])
def test_in_doubt_a_line_is_dropped(line: bytes) -> None:
    assert passed([line + b'\ndata: {"a":1}\n\n'])[0] == b'data: {"a":1}\n\n'


def test_a_line_nested_beyond_reach_is_dropped_and_the_stream_goes_on() -> None:
    deep = b'data: {"a":' + b"[" * 100_000 + b"\n\n"
    assert passed([deep + b'data: {"b":1}\n\n'])[0] == b'data: {"b":1}\n\n'


FRAMES = b'data:|data: | |\n|\n\n|\r|\r\n|{|}|"a":1|,|"event":{}|: c|{"event":1}|[DONE]|NaN|id: 1|:|[|]'.split(b"|")
ODD = [b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x0b", b"\xff", b'"\\u0065vent"']
CHUNKS = [b'{"usage":{"prompt_tokens":3,"completion_tokens":1}}', b'{"choices":[]}']
PIECES = st.sampled_from([*FRAMES, *ODD, *CHUNKS])


@settings(max_examples=600)
@given(pieces=st.lists(PIECES, max_size=16), cuts=st.sets(st.integers(1, 80)), wanted=st.booleans())
def test_any_stream_is_safe_and_reads_the_same_at_any_cut(pieces: list[bytes], cuts: set[int], wanted: bool) -> None:
    whole = b"".join(pieces)
    edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
    once = passed([whole], usage_wanted=wanted)[:2]
    assert passed(parts, usage_wanted=wanted)[:2] == once
    assert not guarded(once[0])


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1}}'
TEXT = b'data: {"choices":[{"delta":{"content":"a"}}]}'


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("choices", [b'"choices":[],', b"", b'"choices":null,'])
def test_a_usage_only_event_is_hidden_with_its_blank_line_from_who_did_not_ask(choices: bytes, end: bytes) -> None:
    text = TEXT + end + end
    stream = text + b"data: {" + choices + b'"usage":{"prompt_tokens":2,"completion_tokens":1}}' + end + end + text
    for parts in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        out, reading, _ = passed(parts, usage_wanted=False)
        assert out == text + text
        assert reading.usage.input == 2


@pytest.mark.parametrize("then", [b"\n", USAGE + b"\n\n"])
@pytest.mark.parametrize("begun", [b'data: {"a":', b'data: {"a":1,\n', USAGE + b"\n", b": ping\n"])
def test_a_whole_event_that_comes_behind_the_beginning_of_another_reads_as_in_one_piece(
    begun: bytes, then: bytes
) -> None:
    parts = [begun, TEXT + b"\n\n", then, TEXT + b"\n\n"]
    assert passed(parts, usage_wanted=False)[:2] == passed([b"".join(parts)], usage_wanted=False)[:2]


def test_a_chunk_with_choices_keeps_its_usage() -> None:
    stream = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":2}}\n\n'
    assert passed([stream], usage_wanted=False)[0] == stream


def test_an_empty_usage_field_hides_nothing() -> None:
    stream = b'data: {"choices":[],"usage":null,"prompt_filter_results":[]}\n\n'
    assert passed([stream], usage_wanted=False)[0] == stream


def test_an_error_is_noticed_and_never_hidden() -> None:
    stream = b'data: {"error":{"message":"x"},"usage":{"prompt_tokens":2}}\n\n'
    out, _, state = passed([stream], usage_wanted=False)
    assert out == stream
    assert state.failed
    assert not passed([TEXT + b"\n\n"])[2].failed


def test_a_hidden_line_leaves_the_rest_of_its_event_whole() -> None:
    assert (
        passed([b"id: 1\n" + USAGE + b"\n\n" + TEXT + b"\n\n"], usage_wanted=False)[0] == b"id: 1\n\n" + TEXT + b"\n\n"
    )
    assert passed([USAGE + b"\nid: 1\n\n"], usage_wanted=False)[0] == b"id: 1\n\n"


def test_cost_and_balance_stand_at_the_end_of_the_final_usage() -> None:
    asked: list[Usage] = []

    def cost(usage: Usage) -> dict[str, Any]:
        asked.append(usage)
        return {"cost": "0.0012", "balance": "4.9988"}

    out, _, _ = passed([TEXT + b"\n\n" + USAGE + b"\r\n\r\n"], cost=cost)
    assert out == TEXT + b"\n\n" + USAGE[:-2] + b',"cost":"0.0012","balance":"4.9988"}}\r\n\r\n'
    assert [(usage.input, usage.output) for usage in asked] == [(2, 1)]


def test_usage_on_every_chunk_gets_the_cost_on_the_last_ones_only() -> None:
    usage = b'"usage":{"prompt_tokens":2,"completion_tokens":1}}\n\n'
    running = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}],' + usage
    last = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],' + usage
    out = passed([running + last], cost=lambda _: {"cost": "0.0000", "tokens_left": 2})[0]
    assert out == running + last[:-4] + b',"cost":"0.0000","tokens_left":2}}\n\n'


def test_a_cost_that_is_not_known_leaves_the_usage_as_it_is() -> None:
    assert passed([USAGE + b"\n\n"], cost=lambda _: None)[0] == USAGE + b"\n\n"


def test_the_end_mark_and_what_follows_wait_for_the_settlement() -> None:
    stream = StreamFilter(StreamMeter(len), usage_wanted=True)
    assert stream.feed(TEXT + b"\n\ndata: [DO") == TEXT + b"\n\n"
    assert not stream.done
    assert stream.feed(b"NE]\n") == b""
    assert stream.done
    assert stream.feed(b"\n: bye\n\n") == b""
    assert (stream.close(), stream.terminal) == (b"", b"data: [DONE]\n\n: bye\n\n")


def test_what_precedes_the_end_mark_in_its_block_leaves_at_once() -> None:
    stream = StreamFilter(StreamMeter(len), usage_wanted=False)
    assert stream.feed(TEXT + b"\n\n" + USAGE + b"\n\ndata: [DONE]\n\n") == TEXT + b"\n\n"
    assert stream.terminal == b"data: [DONE]\n\n"


def test_a_backend_that_talks_on_after_the_end_fills_no_memory() -> None:
    stream = StreamFilter(StreamMeter(len), usage_wanted=True)
    stream.feed(b"data: [DONE]\n\n")
    for _ in range(100):
        stream.feed(b":" * 8000 + b"\n")
    assert len(stream.terminal) <= TERMINAL_BYTES_MAX


def test_an_event_that_is_never_finished_is_refused_at_its_bound() -> None:
    stream = StreamFilter(StreamMeter(len), usage_wanted=True, event_bytes_max=1000)
    with pytest.raises(EventTooLarge):
        for _ in range(200):
            stream.feed(b"data: {\n")


def test_an_event_of_many_lines_is_judged_as_a_whole_up_to_a_bound() -> None:
    begin, line, end = b'data: {"a":[1\n', b"data: ,1\n", b"data: ]}\n"
    most = begin + line * (HELD_LINES_MAX - 2) + end + b"\n"
    joined = passed([most])[0]
    assert joined == most
    stream = StreamFilter(StreamMeter(len), usage_wanted=True)
    with pytest.raises(EventTooLarge, match=f"more than {HELD_LINES_MAX} lines"):
        stream.feed(begin + line * HELD_LINES_MAX)


@pytest.mark.parametrize("length", [2, 8, 64, 256, 4096])
def test_lines_that_wait_for_the_end_of_their_event_weigh_no_more_than_twice_its_bound(length: int) -> None:
    bound = 1024 * 1024
    stream = StreamFilter(StreamMeter(len), usage_wanted=True, event_bytes_max=bound)
    stream.feed(b"data: {\n")
    tracemalloc.start()
    try:
        with pytest.raises(EventTooLarge):
            for _ in range(bound):
                stream.feed(bytes(bytearray(b"x" * (length - 1) + b"\n")))
        assert tracemalloc.get_traced_memory()[1] < 2 * bound
    finally:
        tracemalloc.stop()


def test_text_is_metered_from_data_lines_joined_and_alone() -> None:
    joined = b'data: {"choices":[{"delta":\ndata: {"content":"ab"}}]}\n\n'
    assert passed([joined + TEXT + b"\n\n"])[1].usage.output == 3

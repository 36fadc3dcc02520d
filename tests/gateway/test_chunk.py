"""One event read as a value, by the strict reader or the forgiving one, and its few exact rewritings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.chunk import Chunk, decode, decode_text, with_usage_members, without_guarded_keys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["choices", "usage", "delta"]), inner),
    max_leaves=12,
)


def test_the_fields_that_matter_are_read_and_the_rest_is_passed_over() -> None:
    chunk = decode(b'{"id":1,"choices":[{"delta":{"content":"a","x":[]},"finish_reason":"stop"}],"usage":{"a":1}}')
    assert chunk is not None and chunk.choices is not None
    assert chunk.choices[0].delta is not None and chunk.choices[0].delta.content == "a"
    assert chunk.usage == {"a": 1}
    assert chunk.final and not chunk.guarded


@pytest.mark.parametrize("key", ["event", "selected_model_id", "\\u0065vent", "selected\\u005Fmodel_id"])
@pytest.mark.parametrize("value", ["null", '"x"', '{"type":"execute"}', "NaN"])
def test_a_guarded_key_is_seen_however_it_is_written_and_whatever_its_value(key: str, value: str) -> None:
    chunk = decode(f'{{"a":1,"{key}":{value}}}'.encode())
    assert chunk is not None and chunk.guarded


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":5,"usage":{"prompt_tokens":3}}',
        b'{"x":NaN,"usage":{"prompt_tokens":3}}',
        b'\xc2\xa0{"usage":{"prompt_tokens":3}}',
        b'{"choices":[{"delta":{"content":"\\ud800"}},7],"usage":{"prompt_tokens":3}}',
    ],
)
def test_what_only_a_forgiving_reader_takes_is_read_all_the_same(body: bytes) -> None:
    chunk = decode(body)
    assert chunk is not None and chunk.usage == {"prompt_tokens": 3}


def test_no_json_is_none_and_json_that_is_no_object_is_an_empty_chunk() -> None:
    assert decode(b"[DONE]") is None
    assert decode(b"") is None
    for body in (b"[1]", b'"event"', b"null"):
        chunk = decode(body)
        assert chunk is not None and chunk.choices is None and chunk.event is UNSET


def test_nesting_beyond_reach_is_told_and_not_swallowed() -> None:
    with pytest.raises(RecursionError):
        decode(b'{"a":' + b"[" * 100_000 + b"}")


@given(value=JSON)
def test_any_json_reads_as_a_chunk_without_an_error(value: Any) -> None:
    assert isinstance(decode(json.dumps(value).encode()), Chunk)
    assert isinstance(decode_text(json.dumps(value, ensure_ascii=False)), Chunk)


def test_guarded_keys_go_and_every_other_value_keeps_its_bytes() -> None:
    body = b'{"id": "\\u00e9" , "n":1.50,"event":{"a":1},"selected_model_id":2,"usage":{ "b" : 1e3 }}'
    assert without_guarded_keys(body) == b'{"id":"\\u00e9","n":1.50,"usage":{ "b" : 1e3 }}'


def test_what_cannot_be_rewritten_exactly_is_none() -> None:
    assert without_guarded_keys(b'{"event":1,"x":NaN}') is None
    assert with_usage_members(b'{"usage":null}', {"cost": "1"}) is None
    assert with_usage_members(b'{"choices":[]}', {"cost": "1"}) is None


def test_members_are_put_at_the_end_of_the_usage_and_nothing_else_changes() -> None:
    body = b' {"id" : "x", "usage" : {"prompt_tokens" : 1 }, "z":[1, 2]}\r\n'
    changed = with_usage_members(body, {"cost": "0.1", "balance": "2"})
    assert changed == b' {"id" : "x", "usage" : {"prompt_tokens" : 1 ,"cost":"0.1","balance":"2"}, "z":[1, 2]}\r\n'
    assert with_usage_members(b'{"usage":{}}', {"cost": "1"}) == b'{"usage":{"cost":"1"}}'


@pytest.mark.parametrize("order", [("x_groq", "usage"), ("usage", "x_groq")])
def test_the_top_level_usage_is_the_one_that_changes_though_a_vendor_repeats_it(order: tuple[str, str]) -> None:
    parts = {"usage": b'"usage":{"a":1}', "x_groq": b'"x_groq":{"usage":{"a":1}}'}
    changed = with_usage_members(b"{" + b",".join(parts[name] for name in order) + b"}", {"cost": "1"})
    assert changed is not None
    assert json.loads(changed) == {"usage": {"a": 1, "cost": "1"}, "x_groq": {"usage": {"a": 1}}}


def test_a_cost_of_the_backend_gives_way_to_ours() -> None:
    changed = with_usage_members(b'{"usage":{"cost":0.5,"a":1e2}}', {"cost": "1", "balance": "2"})
    assert changed == b'{"usage":{"a":1e2,"cost":"1","balance":"2"}}'


def test_usage_within_an_object_gets_its_members_and_copies_of_it_do_not() -> None:
    payload = b'{"copy":{"usage":{"a":1}},"response":{"usage":{"a":1},"x": 0.10},"later":{"usage":{"a":1}}}'
    changed = with_usage_members(payload, {"cost": "1"}, "response")
    assert changed == payload.replace(b'"response":{"usage":{"a":1}', b'"response":{"usage":{"a":1,"cost":"1"}')


@pytest.mark.parametrize(
    "payload", [b"{}", b'{"response":5}', b'{"response":{"usage":null}}', b'{"response":{}}', b"["]
)
def test_without_usage_within_nothing_is_inserted(payload: bytes) -> None:
    assert with_usage_members(payload, {"cost": "1"}, "response") is None

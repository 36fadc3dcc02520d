"""The request body as a value, and the body that goes upstream in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import BadRequest, parse_chat, parse_embeddings, rewrite

MESSAGES = [{"role": "user", "content": "Hello"}]
PICTURE = "data:image/png;base64," + "A" * 4000


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES} | fields, separators=(",", ":")).encode()


def content(*parts: dict[str, Any]) -> bytes:
    return body(messages=[{"role": "user", "content": list(parts)}])


def test_a_plain_chat_is_read_with_its_defaults() -> None:
    request = parse_chat(body())
    assert (request.model, request.stream, request.n, request.asked_output) == ("m", False, 1, None)
    assert (request.include_usage, request.features, request.tools) == (False, frozenset(), b"")
    assert json.loads(request.messages) == MESSAGES


def test_null_says_the_same_as_absence() -> None:
    names = ["stream", "n", "max_tokens", "max_completion_tokens", "stream_options", "tools", "audio", "modalities"]
    request = parse_chat(body(**dict.fromkeys([*names, "web_search_options"])))
    assert (request.stream, request.n, request.asked_output, request.features) == (False, 1, None, frozenset())


def test_stream_and_usage_wishes_are_read() -> None:
    request = parse_chat(body(stream=True, stream_options={"include_usage": True}, n=3))
    assert (request.stream, request.include_usage, request.n) == (True, True, 3)


def test_of_two_output_bounds_the_larger_counts_as_asked() -> None:
    assert parse_chat(body(max_tokens=5)).asked_output == 5
    assert parse_chat(body(max_completion_tokens=7)).asked_output == 7
    assert parse_chat(body(max_tokens=9, max_completion_tokens=7)).asked_output == 9


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"messages": "x"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [1]}, "messages"),
        ({"messages": [{"content": [1]}]}, "messages"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"tools": {}}, "tools"),
        ({"modalities": "audio"}, "modalities"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest, match=param) as caught:
        parse_chat(body(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize("given", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"model":"m"} x', b"\xef\xbb\xbf{}"])
def test_what_is_no_json_object_is_refused(given: bytes) -> None:
    with pytest.raises(BadRequest, match="JSON") as caught:
        parse_chat(given)
    assert caught.value.param is None


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("name", [b"x", b"messages", b"tools"])
def test_deep_nesting_is_refused(opening: bytes, name: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_chat(b'{"model":"m","' + name + b'":' + opening * 100_000)


def test_a_body_of_countless_fields_is_refused_before_it_is_split() -> None:
    with pytest.raises(BadRequest, match="too many fields"):
        parse_chat(b"{" + b'"":0,' * 500_001 + b'"a":0}')


def test_an_escaped_key_is_the_key_it_spells() -> None:
    assert parse_chat(b'{"\\u006dodel":"m","messages":[]}').model == "m"


def test_a_key_that_stands_twice_goes_up_once_with_the_value_that_was_read() -> None:
    request = parse_chat(b'{"model":"cheap","messages":[],"m\\u006fdel":"dear","n":1,"n":2}')
    assert (request.model, request.n) == ("dear", 2)
    assert rewrite(request, model="dear") == b'{"model":"dear","messages":[],"n":2}'


@pytest.mark.parametrize(
    ("request_body", "features"),
    [
        (body(tools=[{"type": "function"}]), {"tools"}),
        (body(tools=[]), set()),
        (body(functions=[{"name": "f"}]), {"tools"}),
        (body(tools=[{"type": "web_search_preview"}]), {"tools", "web_search"}),
        (body(tools=[{"type": "function", "function": {"name": "web_search"}}]), {"tools"}),
        (body(web_search_options={}), {"web_search"}),
        (body(modalities=["text", "audio"]), {"audio"}),
        (body(audio={"voice": "x"}), {"audio"}),
        (content({"type": "input_audio", "input_audio": {"data": "AAAA"}}), {"audio"}),
        (content({"type": "image_url", "image_url": {"url": PICTURE}}), {"images"}),
        (content({"type": "image_url", "image_url": "https://example.com/a.png"}), {"images"}),
        (content({"type": "input_image"}), {"images"}),
        (content({"type": "text", "text": '{"type":"image_url","input_audio":"web_search"}'}), set()),
        (body(messages=[{"role": "user", "content": 'an "image_url" and "input_audio"'}]), set()),
        (b'{"model":"m","messages":[{"content":[{"\\u0069mage_url":{"url":"x"}}]}]}', {"images"}),
        (b'{"model":"m","messages":[],"tools":[{"type":"web\\u005fsearch"}]}', {"tools", "web_search"}),
    ],
)
def test_features_are_what_is_used_and_not_what_is_spoken_of(request_body: bytes, features: set[str]) -> None:
    assert parse_chat(request_body).features == features


def test_media_are_measured_apart_from_the_text() -> None:
    text = {"type": "text", "text": "What is this?"}
    image = {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}
    request = parse_chat(content(text, image))
    assert request.media.image_bytes > 4000
    assert request.text_bytes < 150
    assert [picture.detail for picture in request.media.images] == ["low"]
    assert request.media.images[0].head.startswith(b'{"url":"data:image/png')


def test_detail_is_found_before_the_url_too_and_a_huge_image_is_kept_only_at_its_head() -> None:
    image = {"type": "image_url", "image_url": {"detail": "high", "url": PICTURE * 100}}
    picture = parse_chat(content(image)).media.images[0]
    assert (picture.detail, len(picture.head)) == ("high", 88 * 1024)


def test_a_body_that_says_it_all_goes_up_as_it_came() -> None:
    for request in (parse_chat(body()), parse_chat(body(stream=True, stream_options={"include_usage": True}))):
        assert rewrite(request, model="m") is request.body


def test_only_what_must_change_changes_and_every_other_byte_and_place_stays() -> None:
    given = b'{"temperature":1.50,"model":"m","messages":[ {"content" : "\\u00e9" } ],"stream":true,"max_tokens":9}'
    assert rewrite(parse_chat(given), model="up", max_output=5) == (
        b'{"temperature":1.50,"model":"up","messages":[ {"content" : "\\u00e9" } ],"stream":true,"max_tokens":5,'
        b'"stream_options":{"include_usage":true}}'
    )


def test_other_stream_options_stay_beside_the_usage() -> None:
    sent = rewrite(parse_chat(body(stream=True, stream_options={"x": 1, "include_usage": False})), model="m")
    assert json.loads(sent)["stream_options"] == {"x": 1, "include_usage": True}


def test_a_bound_replaces_every_name_the_caller_used_or_is_added_under_the_one_told() -> None:
    both = rewrite(parse_chat(body(max_tokens=9, max_completion_tokens=8)), model="m", max_output=5)
    assert (json.loads(both)["max_tokens"], json.loads(both)["max_completion_tokens"]) == (5, 5)
    added = rewrite(parse_chat(body()), model="m", max_output=5, output_field="max_completion_tokens")
    assert json.loads(added)["max_completion_tokens"] == 5


@given(
    extra=st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text()), max_size=5),
    spaced=st.booleans(),
)
def test_any_body_goes_up_with_the_same_meaning(extra: dict[str, Any], spaced: bool) -> None:
    fields = {"x" + name: value for name, value in extra.items()} | {"model": "m", "messages": MESSAGES}
    given = json.dumps(fields, separators=None if spaced else (",", ":")).encode()
    assert json.loads(rewrite(parse_chat(given), model="other")) == fields | {"model": "other"}


@given(given=st.binary(max_size=60) | st.text(alphabet='{}[]":,modelmsg', max_size=40).map(str.encode))
def test_no_body_raises_anything_but_a_bad_request(given: bytes) -> None:
    for parse in (parse_chat, parse_embeddings):
        with pytest.raises(BadRequest):
            parse(given)


def test_embeddings_are_read_and_rewritten() -> None:
    request = parse_embeddings(b'{"model":"e","input":["a",  "b"]}')
    assert (request.model, request.input) == ("e", b'["a",  "b"]')
    assert rewrite(request, model="up") == b'{"model":"up","input":["a",  "b"]}'


@pytest.mark.parametrize("given", [b'{"model":"e"}', b'{"model":"e","input":5}', b'{"model":"e","input":null}'])
def test_embeddings_without_an_input_are_refused(given: bytes) -> None:
    with pytest.raises(BadRequest, match="input") as caught:
        parse_embeddings(given)
    assert caught.value.param == "input"

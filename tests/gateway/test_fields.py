"""The fields of a request body, one by one."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.fields import (
    COLONS_MAX,
    BadRequest,
    Raw,
    encode,
    is_set,
    items,
    joined,
    list_of,
    model_of,
    read,
    split,
    usage_asked,
    usage_wanted,
    whole,
)

OBJECTS = msgspec.json.Decoder(list[dict[str, int]])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"\xff", b'{"a":' + b"[" * 100_000, b":" * (COLONS_MAX + 1)])
def test_a_body_that_is_no_usable_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        split(body)


def test_an_unchanged_body_is_the_very_same_and_a_changed_one_keeps_the_rest() -> None:
    body = b'{"model":"m","t":0.10}'
    fields = split(body)
    assert joined(body, fields) is body
    assert joined(body, {**fields, "model": Raw(encode("n"))}) == b'{"model":"n","t":0.10}'


def test_a_value_is_read_or_refused_by_its_fields_name() -> None:
    fields = split(b'{"a":true,"b":null,"c":5}')
    assert (read(fields, "a", bool, "x"), read(fields, "b", bool, "x"), read(fields, "d", bool, "x")) == (
        True,
        None,
        None,
    )
    assert (is_set(fields, "a"), is_set(fields, "b"), is_set(fields, "d")) == (True, False, False)
    with pytest.raises(BadRequest, match="The field c must be a text") as caught:
        read(fields, "c", str, "a text")
    assert caught.value.param == "c"


def test_a_number_is_whole_and_within_its_bounds() -> None:
    fields = split(b'{"a":0,"b":9}')
    assert (whole(fields, "a", 5, 0), whole(fields, "c", 5)) == (0, None)
    for name in ("a", "b"):
        with pytest.raises(BadRequest, match="from 1 to 5"):
            whole(fields, name, 5)


def test_a_list_is_its_bytes() -> None:
    fields = split(b'{"a":[1, 2],"b":{},"c":null}')
    assert (list_of(fields, "a"), list_of(fields, "c")) == (b"[1, 2]", b"")
    for name in ("b", "c"):
        with pytest.raises(BadRequest, match="must be a list"):
            list_of(fields, name, required=True)
    assert items(b'[{"x":1}]', OBJECTS, "a") == [{"x": 1}]
    with pytest.raises(BadRequest, match="list of objects"):
        items(b"[1]", OBJECTS, "a")


@pytest.mark.parametrize("body", [b"{}", b'{"model":""}', b'{"model":null}', b'{"model":5}'])
def test_a_model_must_be_named(body: bytes) -> None:
    with pytest.raises(BadRequest, match="model"):
        model_of(split(body))


def test_usage_is_asked_for_beside_the_other_options() -> None:
    fields = split(b'{"stream_options":{"include_obfuscation":false}}')
    assert not usage_wanted(fields)
    asked = usage_asked(fields["stream_options"])
    assert json.loads(bytes(asked)) == {"include_obfuscation": False, "include_usage": True}
    assert usage_wanted({"stream_options": asked})
    assert bytes(usage_asked(None)) == b'{"include_usage":true}'

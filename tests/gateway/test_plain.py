"""A JSON request as its fields: passed on as it came, but for the model's name."""

from __future__ import annotations

from gateway.fields import split
from gateway.plain import EXACT_BYTES_MAX, PlainRequest, rewrite, text_tokens
from tests.gateway.words import MODEL, Words

BODY = b'{"input" : "a\\u00fc", "model":"m", "x":1.50}'


def request(body: bytes) -> PlainRequest:
    return PlainRequest(body=body, fields=split(body), model="m")


def test_only_the_model_is_renamed_and_every_value_keeps_its_bytes() -> None:
    assert rewrite(request(BODY), "inner", None) == b'{"input":"a\\u00fc","model":"inner","x":1.50}'


def test_a_body_that_says_just_that_goes_on_as_it_is() -> None:
    compact = BODY.replace(b" ", b"")
    assert rewrite(request(compact), "m", 5) is compact


def test_a_key_that_stood_twice_stands_once_with_the_value_that_was_read() -> None:
    assert rewrite(request(b'{"model":"x","model":"m"}'), "m", None) == b'{"model":"m"}'


async def test_short_texts_are_counted_and_long_ones_estimated_in_the_models_measure() -> None:
    assert await text_tokens(["a b", "c"], 4, MODEL, Words()) == 3
    assert await text_tokens([], EXACT_BYTES_MAX + 2, MODEL, Words()) == 2 * (EXACT_BYTES_MAX + 2) // 3

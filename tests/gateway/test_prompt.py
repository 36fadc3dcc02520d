"""Input that is no chat, counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.catalog import Model
from gateway.call import Media
from gateway.counting import EXACT_BYTES_MAX, Counting
from gateway.prompt import ITEM_TOKENS, Prompt, exact_count, plain_image, quick_count
from gateway.tokens import Tokenizers
from policies.estimate import IMAGE_UNKNOWN_TOKENS

MODEL = Model(id="m", upstream="u", upstream_model="gpt-5")


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Counting:
    return Counting(Tokenizers.load(tmp_path_factory.mktemp("vocabulary")))


def words(value: Any) -> Prompt:
    return Prompt((json.dumps(value).encode(),))


async def test_words_count_and_names_and_media_do_not(counting: Counting) -> None:
    plain = await exact_count(words([{"content": "Hello"}]), MODEL, counting)
    part = {"type": "text", "text": "Hello", "id": "x" * 99, "signature": "A" * 999}
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 999}, "image_url": "data:" + "A" * 999}
    assert await exact_count(words([{"content": [part, image]}]), MODEL, counting) == plain == 1 + ITEM_TOKENS


async def test_documents_sent_as_text_and_calls_of_tools_count(counting: Counting) -> None:
    nothing = await exact_count(words([{"content": ""}]), MODEL, counting)
    for part in (
        {"type": "document", "source": {"type": "text", "data": "Hello you"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Hello you"}]}},
        {"type": "tool_use", "input": {"type": "Hello"}},
        {"type": "function_call", "arguments": '{"a":1}'},
    ):
        assert await exact_count(words([{"content": [part]}]), MODEL, counting) > nothing


async def test_tools_and_media_add_to_it(counting: Counting) -> None:
    tools = await exact_count(Prompt((b"[]",), b'[{"name": "f"}]'), MODEL, counting)
    media = Media(images=(plain_image(),), audio_bytes=2000, file_bytes=400)
    assert tools > 0 == await exact_count(Prompt((b"null",), b"[]"), MODEL, counting)
    assert await exact_count(Prompt((b"[]",), media=media), MODEL, counting) == IMAGE_UNKNOWN_TOKENS + 2 + 10


async def test_a_long_prompt_is_estimated_and_never_much_too_low(counting: Counting) -> None:
    long = words("word " * EXACT_BYTES_MAX)
    assert await quick_count(long, MODEL, counting) > await exact_count(long, MODEL, counting)
    short = words("word")
    assert await quick_count(short, MODEL, counting) == await exact_count(short, MODEL, counting)


async def test_what_cannot_be_read_counts_as_the_text_it_is(counting: Counting) -> None:
    assert await exact_count(Prompt((b"[" * 5000,)), MODEL, counting) > 0
    assert await exact_count(Prompt((b"[]",), b"[" * 5000), MODEL, counting) > 0


async def test_nesting_has_an_end(counting: Counting) -> None:
    deep: Any = "Hello"
    for _ in range(200):
        deep = [deep]
    assert await exact_count(words(deep), MODEL, counting) == ITEM_TOKENS

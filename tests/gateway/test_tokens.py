"""Counting with the real vocabularies, unpacked from their wheel and never fetched."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from gateway import tokens
from gateway.tokens import Tokenizers, VocabularyError, encoding_for

O200K_FILE = "fb374d419588a4632f3f557e76b4b70aebbca790"  # the name tiktoken gives the vocabulary in its folder


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers.load(tmp_path_factory.mktemp("data"))


def test_known_texts_have_their_known_counts(tokenizers: Tokenizers) -> None:
    assert tokenizers.count("hello world") == 2
    assert tokenizers.count("hello world", "cl100k_base") == 2
    assert tokenizers.count("") == 0
    assert tokenizers.count("tiktoken is great!", "cl100k_base") == 6


def test_special_tokens_are_counted_as_plain_text(tokenizers: Tokenizers) -> None:
    assert tokenizers.count("<|endoftext|>") > 1


def test_a_run_of_blanks_that_makes_the_library_panic_is_counted(tokenizers: Tokenizers) -> None:
    assert 0 < tokenizers.count(" " * 1_200_000) < 1_200_000


def test_a_lone_surrogate_is_counted(tokenizers: Tokenizers) -> None:
    assert tokenizers.count("a\ud800b") > 0


@given(text=st.text(max_size=200))
def test_any_text_is_counted_as_the_library_counts_it(tokenizers: Tokenizers, text: str) -> None:
    assert tokenizers.count(text) == len(tiktoken.get_encoding("o200k_base").encode_ordinary(text))


def test_slices_cost_only_a_few_tokens(tokenizers: Tokenizers) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 8000
    whole = len(tiktoken.get_encoding("o200k_base").encode_ordinary(text))
    assert whole <= tokenizers.count(text) <= whole + 10


class Panic(tiktoken.Encoding):
    """Stands for a vocabulary whose native core fails in the given way."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def encode_ordinary(self, text: str) -> list[int]:
        raise self._error


PanicException = type("PanicException", (BaseException,), {})


def test_a_panic_of_the_native_core_becomes_an_estimate() -> None:
    assert Tokenizers({"o200k_base": Panic(PanicException())}).count("x" * 30) == 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_must_not_be_swallowed_goes_on_its_way(error: type[BaseException]) -> None:
    with pytest.raises(error):
        Tokenizers({"o200k_base": Panic(error())}).count("x")


async def test_long_texts_are_counted_off_the_event_loop(
    tokenizers: Tokenizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[threading.Thread] = []
    count = tokenizers.count

    def noted(*args: str) -> int:
        seen.append(threading.current_thread())
        return count(*args)

    monkeypatch.setattr(tokenizers, "count", noted)
    short, long = "word " * 100, "word " * 10_000
    assert await tokenizers.count_async(short) == count(short)
    assert await tokenizers.count_async(long) == count(long)
    assert await tokenizers.count_chat_async(json.dumps([{"content": long}]).encode()) > 10_000
    assert [thread is threading.main_thread() for thread in seen][:2] == [True, False]
    assert threading.main_thread() not in seen[2:]


def test_a_chat_costs_its_texts_and_the_known_overhead(tokenizers: Tokenizers) -> None:
    one = [{"role": "user", "content": "hello world"}]
    assert tokenizers.count_chat(json.dumps(one).encode()) == 3 + 1 + 2 + 3
    named = [{"role": "user", "name": "bob", "content": "hello world"}]
    assert tokenizers.count_chat(json.dumps(named).encode()) == 3 + 1 + 2 + 3 + 1 + tokenizers.count("bob")


def test_parts_calls_tools_and_images_are_counted_and_base64_is_not(tokenizers: Tokenizers) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello\u0020world"}, picture]}]
    assert tokenizers.count_chat(json.dumps(parts).encode(), images=85) == 3 + 1 + 2 + 3 + 85
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]}
    assert tokenizers.count_chat(json.dumps([call]).encode()) == 3 + 1 + 1 + tokenizers.count('{"a":1}') + 3
    tools = [{"type": "function", "function": {"name": "weather"}}]
    compact = tokenizers.count(json.dumps(tools, separators=(",", ":")))
    assert tokenizers.count_chat(b"[]", json.dumps(tools, indent=4).encode()) == 3 + compact


@pytest.mark.parametrize("messages", [b"x y z", b"[1]", b'[{"content":5}]', b"[" * 100_000, b"\xff"])
def test_messages_that_cannot_be_read_count_as_the_text_they_are(tokenizers: Tokenizers, messages: bytes) -> None:
    assert tokenizers.count_chat(messages) == tokenizers.count(messages.decode("utf-8", "replace"))


def test_embedding_inputs_of_all_four_forms_are_counted(tokenizers: Tokenizers) -> None:
    forms = [b'"hello world"', b'["hello world","hello"]', b"[1,2,3]", b"[[1,2],[3]]"]
    assert [tokenizers.count_input(form) for form in forms] == [2, 3, 3, 3]


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("openai/o3", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-3.5-turbo-instruct", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("qwen3-max", "o200k_base"),
    ],
)
def test_the_vocabulary_follows_the_name_of_the_model(model: str, encoding: str) -> None:
    assert encoding_for(model) == encoding
    assert encoding_for(model, "cl100k_base") == "cl100k_base"


def test_the_vocabulary_is_unpacked_under_the_name_tiktoken_looks_for(tmp_path: Path) -> None:
    Tokenizers.load(tmp_path, ["o200k_base"])
    assert [file.name for file in (tmp_path / "tiktoken").iterdir()] == [O200K_FILE]
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path / "tiktoken")


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiktoken").mkdir()
    (tmp_path / "tiktoken" / O200K_FILE).write_bytes(b"broken")
    Tokenizers.load(tmp_path, ["o200k_base"])
    assert (tmp_path / "tiktoken" / O200K_FILE).stat().st_size > 1_000_000


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VocabularyError, match="cannot write the vocabulary to"):
        Tokenizers.load(tmp_path / "file", ["o200k_base"])


def test_a_vocabulary_that_is_not_on_this_machine_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="no offline vocabulary r50k_base"):
        Tokenizers.load(tmp_path, ["r50k_base"])


def test_a_damaged_package_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens._SHA256, "o200k_base", "0" * 64)
    with pytest.raises(VocabularyError, match="damaged"):
        Tokenizers.load(tmp_path, ["o200k_base"])

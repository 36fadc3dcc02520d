"""Counting texts, chats and inputs with the real vocabularies, and with those that fail or are not there."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from gateway import tokens
from gateway.tokens import Tokenizers, encoding_for
from gateway.vocabulary import ExtraVocabulary


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


class Broken:
    """Stands for a vocabulary whose library fails in the given way."""

    slice_chars = thread_chars = 1000

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def count(self, text: str) -> int:
        raise self._error


PanicException = type("PanicException", (BaseException,), {})


@pytest.mark.parametrize("error", [PanicException(), ValueError(), MemoryError()])
def test_what_a_library_cannot_take_becomes_an_estimate(error: BaseException) -> None:
    assert Tokenizers({"o200k_base": Broken(error)}).count("x" * 30) == 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_must_not_be_swallowed_goes_on_its_way(error: type[BaseException]) -> None:
    with pytest.raises(error):
        Tokenizers({"o200k_base": Broken(error())}).count("x")


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
    assert [thread is threading.main_thread() for thread in seen][:2] == [True, False]
    assert threading.main_thread() not in seen[2:]


@pytest.mark.parametrize("name", ["llama3", "mistral_v1", "gemma4"])
def test_a_vocabulary_of_the_extra_is_loaded_by_the_first_who_names_it(tokenizers: Tokenizers, name: str) -> None:
    own = ExtraVocabulary(name)
    text = "Ein Satz, der in jedem Wortschatz anders zerfällt: Donaudampfschifffahrt."
    assert tokenizers.count(text, name) == own.count(text) != tokenizers.count(text)
    chat = json.dumps([{"role": "user", "content": text}]).encode()
    assert tokenizers.count_chat(chat, encoding=name) == 3 + own.count("user") + own.count(text) + 3


def test_of_openais_own_only_what_is_needed_is_loaded(tmp_path: Path) -> None:
    here = Tokenizers.load(tmp_path)
    assert set(here._vocabularies) == {"o200k_base"}
    text = "Donaudampfschifffahrtsgesellschaft"
    assert here.count(text, "cl100k_base") == len(tiktoken.get_encoding("cl100k_base").encode_ordinary(text))
    assert set(here._vocabularies) == {"o200k_base", "cl100k_base"}


async def test_a_vocabulary_that_is_not_loaded_yet_is_loaded_off_the_event_loop(
    tokenizers: Tokenizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    class Noted(ExtraVocabulary):
        def __init__(self, name: str) -> None:
            threads.append(threading.current_thread())
            super().__init__(name)

    monkeypatch.setattr(tokens, "ExtraVocabulary", Noted)
    counts = await asyncio.gather(*(tokenizers.count_async("hello world", "phi4") for _ in range(8)))
    assert counts == [2] * 8
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


async def test_texts_of_the_extra_are_counted_off_the_event_loop_from_a_smaller_size_on(
    tokenizers: Tokenizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizers.prepare(["qwen3"])
    seen: list[bool] = []
    count = tokenizers.count

    def noted(*args: str) -> int:
        seen.append(threading.current_thread() is threading.main_thread())
        return count(*args)

    monkeypatch.setattr(tokenizers, "count", noted)
    text = "word " * 2000
    assert await tokenizers.count_async(text) == pytest.approx(await tokenizers.count_async(text, "qwen3"), rel=0.01)
    assert seen == [True, False]


def test_slices_of_the_extra_cost_only_a_few_tokens(tokenizers: Tokenizers) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 8000
    for name in ("llama2", "qwen3"):
        whole = ExtraVocabulary(name).count(text)
        assert whole <= tokenizers.count(text, name) <= whole * 1.002


@pytest.mark.parametrize(("name", "why"), [("llama3", "needs the extra"), ("nonsense", "there is no vocabulary")])
def test_a_vocabulary_that_is_not_to_be_had_is_stood_in_for_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tokenizers: Tokenizers, name: str, why: str
) -> None:
    monkeypatch.setitem(sys.modules, "splintr", None)
    here = Tokenizers({"o200k_base": tokenizers._vocabularies["o200k_base"]})
    text = "Donaudampfschifffahrtsgesellschaft"
    with caplog.at_level(logging.WARNING):
        here.prepare([name])
        assert [here.count(text, name) for _ in range(3)] == [tokenizers.count(text)] * 3
    (record,) = caplog.records
    assert record.message == "counted by another vocabulary" and why in record.__dict__["reason"]


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

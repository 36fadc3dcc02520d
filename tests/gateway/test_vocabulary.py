"""The real vocabularies: tiktoken's, unpacked from their wheel and never fetched, and those of the optional extra."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
import splintr
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from config.vocabularies import EXTRA
from gateway import vocabulary
from gateway.vocabulary import ExtraVocabulary, Remembering, TiktokenVocabulary, VocabularyError

O200K_FILE = "fb374d419588a4632f3f557e76b4b70aebbca790"  # the name tiktoken gives the vocabulary in its folder
ODD = [
    "a\ud800b",
    "\0" * 999,
    " " * 9999,
    "\n" * 999,
    "ab" * 4000,
    "😀" * 999,
    "e\u0301" * 999,
    "<|endoftext|>" * 99,
    "的一是" * 999,
]


@pytest.fixture(scope="module")
def o200k(tmp_path_factory: pytest.TempPathFactory) -> TiktokenVocabulary:
    return TiktokenVocabulary(tmp_path_factory.mktemp("data"), "o200k_base")


@pytest.fixture(scope="module")
def cl100k(tmp_path_factory: pytest.TempPathFactory) -> TiktokenVocabulary:
    return TiktokenVocabulary(tmp_path_factory.mktemp("data"), "cl100k_base")


@pytest.fixture(scope="module", params=EXTRA)
def extra(request: pytest.FixtureRequest) -> ExtraVocabulary:
    return ExtraVocabulary(request.param)


def test_the_vocabulary_is_unpacked_under_the_name_tiktoken_looks_for(tmp_path: Path) -> None:
    TiktokenVocabulary(tmp_path, "o200k_base")
    assert [file.name for file in (tmp_path / "tiktoken").iterdir()] == [O200K_FILE]
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path / "tiktoken")


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiktoken").mkdir()
    (tmp_path / "tiktoken" / O200K_FILE).write_bytes(b"broken")
    TiktokenVocabulary(tmp_path, "o200k_base")
    assert (tmp_path / "tiktoken" / O200K_FILE).stat().st_size > 1_000_000


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VocabularyError, match="cannot write the vocabulary to"):
        TiktokenVocabulary(tmp_path / "file", "o200k_base")


def test_a_vocabulary_that_is_not_on_this_machine_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="no offline vocabulary r50k_base"):
        TiktokenVocabulary(tmp_path, "r50k_base")


def test_a_damaged_package_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary._SHA256, "o200k_base", "0" * 64)
    with pytest.raises(VocabularyError, match="damaged"):
        TiktokenVocabulary(tmp_path, "o200k_base")


def test_a_vocabulary_the_extra_does_not_have_is_a_clear_error() -> None:
    with pytest.raises(VocabularyError, match="there is no vocabulary whisper"):
        ExtraVocabulary("whisper")


def test_a_vocabulary_another_version_of_the_extra_had_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "EXTRA", (*EXTRA, "llama9"))
    with pytest.raises(VocabularyError, match="the extra that is installed has no vocabulary llama9"):
        ExtraVocabulary("llama9")


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "splintr", None)
    with pytest.raises(VocabularyError, match=r"llama3 needs the extra: pip install 'farebox\[tokenizers\]'"):
        ExtraVocabulary("llama3")


def test_each_of_the_extra_counts_text_without_marks_of_its_own(extra: ExtraVocabulary) -> None:
    assert extra.count("") == 0
    assert 2 <= extra.count("hello world") <= 3
    assert extra.count("<|endoftext|>") > 1
    assert 25 < extra.count("The quick brown fox jumps over the lazy dog. " * 3) < 40


def test_each_of_the_extra_counts_odd_texts(extra: ExtraVocabulary) -> None:
    for text in ODD:
        assert 0 < extra.count(text[: extra.slice_chars]) <= len(text.encode("utf-8", "replace")) + 1


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=120))
def test_any_text_has_at_most_a_token_for_each_of_its_bytes(extra: ExtraVocabulary, text: str) -> None:
    assert extra.count(text) <= len(text.encode()) + 1  # one for the beginning, where a vocabulary marks it


class Letters:
    """Counts letters, and keeps what it was asked."""

    slice_chars, thread_chars = 5000, 5

    def __init__(self) -> None:
        self.asked: list[str] = []

    def count(self, text: str) -> int:
        self.asked.append(text)
        if text == "odd":
            raise ValueError(text)
        return len(text)


def test_a_text_is_counted_once() -> None:
    letters = Letters()
    remembering = Remembering(letters)
    assert [remembering.count(text) for text in ("one", "three", "one", "", "", "\ud800", "\ud800")] == [
        3,
        5,
        3,
        0,
        0,
        1,
        1,
    ]
    assert letters.asked == ["one", "three", "", "\ud800"]
    assert (remembering.slice_chars, remembering.thread_chars) == (5000, 5)


def test_what_cannot_be_counted_is_estimated_and_tried_each_time() -> None:
    letters = Letters()
    remembering = Remembering(letters)
    assert [remembering.count("odd") for _ in range(2)] == [1, 1]
    assert letters.asked == ["odd", "odd"]


def test_counts_are_kept_within_bounds_and_those_asked_for_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_COUNTS_KEPT", 4)
    letters = Letters()
    remembering = Remembering(letters)
    for number in range(100):
        assert remembering.count("asked for") == 9
        remembering.count(f"{number}")
        assert len(remembering._young) + len(remembering._old) <= 8
    assert letters.asked.count("asked for") == 1
    remembering.count("0")
    assert letters.asked.count("0") == 2


def test_of_a_long_text_nothing_is_kept() -> None:
    letters = Letters()
    remembering = Remembering(letters)
    assert [remembering.count("x" * 4097) for _ in range(2)] == [4097, 4097]
    assert len(letters.asked) == 2
    assert not remembering._young


def test_a_very_long_text_is_counted_in_slices() -> None:
    letters = Letters()
    assert Remembering(letters).count("x" * 12_001) == 12_001
    assert [len(text) for text in letters.asked] == [5000, 5000, 2001]


@pytest.fixture(scope="module")
def pairs(
    o200k: TiktokenVocabulary, cl100k: TiktokenVocabulary
) -> list[tuple[TiktokenVocabulary, splintr.AnyTokenizer]]:
    names = {"o200k_base": o200k, "cl100k_base": cl100k}
    return [(ours, splintr.Tokenizer.from_pretrained(name)) for name, ours in names.items()]


@settings(max_examples=400, deadline=None)
@given(text=st.text(max_size=200) | st.text("aZ 'sé1\n\t😀的<|>", max_size=60))
def test_both_libraries_agree_where_both_have_the_vocabulary(
    pairs: list[tuple[TiktokenVocabulary, splintr.AnyTokenizer]], text: str
) -> None:
    for ours, theirs in pairs:
        assert len(theirs.encode_ordinary(text)) == ours.count(text)


def test_words_that_were_met_are_forgotten_again() -> None:
    """The library keeps each word, of any length: a caller who sends new ones for ever must fill no memory."""
    counting, chance = ExtraVocabulary("qwen3"), random.Random(7)
    seen = 0
    for _ in range(400):
        counting.count("".join(chance.choices("abcdefghijklmnopqrstuvwxyzäöü", k=counting.slice_chars)))
        seen = max(seen, counting._tokenizer.cache_len)
    assert seen <= vocabulary._REMEMBERED_CHARS // counting.slice_chars + 9


def test_tiktoken_counts_as_its_own_encoding_does(o200k: TiktokenVocabulary) -> None:
    text = "Straße, 你好 and def f(x): return x ** 2"
    assert o200k.count(text) == len(tiktoken.get_encoding("o200k_base").encode_ordinary(text))

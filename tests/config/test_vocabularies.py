"""A vocabulary is named by its one name, and only where it is installed."""

from __future__ import annotations

import sys

import pytest
from pydantic import TypeAdapter

from config.vocabularies import ALWAYS, EXTRA, VocabularyName, vocabulary_name


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "splintr", None)


@pytest.mark.parametrize("name", [*ALWAYS, *EXTRA])
def test_every_vocabulary_has_its_name(name: str) -> None:
    assert vocabulary_name(name) == name


def test_a_name_nobody_knows_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"must be one of o200k_base, .*olmo2; did you mean qwen3\?"):
        vocabulary_name("qwen3.5")


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_its_vocabularies_are_told_with_what_to_install() -> None:
    assert [vocabulary_name(name) for name in ALWAYS] == [*ALWAYS]
    for name in EXTRA:
        with pytest.raises(ValueError, match=rf"{name} needs the extra: pip install 'farebox\[tokenizers\]'"):
            vocabulary_name(name)


def test_a_form_lists_the_names_in_its_schema() -> None:
    assert TypeAdapter(VocabularyName).json_schema()["enum"] == [*ALWAYS, *EXTRA]

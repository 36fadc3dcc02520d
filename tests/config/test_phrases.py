"""The keys of the sentences, and what a tier's own text must be like."""

from __future__ import annotations

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from config.phrases import CHARS_MAX, PLACEHOLDERS, OwnTexts, checked_text, placeholders

OWN = TypeAdapter(OwnTexts)


def test_a_text_of_ones_own_stands_for_a_sentence() -> None:
    own = {"en": {"balance_short": "Only {balance}. See {url}", "internal": "Oh."}, "fa-IR": {"internal": "وای"}}
    assert OWN.validate_python(own) == own


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("balance_shrt", "Oh.", "there is no sentence balance_shrt; did you mean balance_short?"),
        ("balance_short", "Wait {wait}", "cannot hold {wait}; it may hold {balance}, {url}"),
        ("internal", "{url}", "it may hold nothing in braces"),
        ("balance_short", "{url.__class__}", "cannot hold {url.__class__}"),
        ("balance_short", "{}", "cannot hold {}"),
        ("balance_short", "{url!r}", "cannot hold {url!r}"),
        ("internal", "", "1 to 300 characters"),
        ("internal", "x" * (CHARS_MAX + 1), "1 to 300 characters"),
        ("internal", "one\ntwo", "one line"),
        ("internal", "one\u2028two", "one line"),
        ("internal", "a } b", "one line, without braces"),
        ("internal", "a {{ b", "one line, without braces"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(key: str, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        checked_text(key, text)
    with pytest.raises(ValidationError, match=re.escape(told)):
        OWN.validate_python({"en": {key: text}})


def test_a_language_is_told_by_its_code() -> None:
    for code in ("English", "e", "en_US", "en\n", ""):
        with pytest.raises(ValidationError, match="not the code of a language"):
            OWN.validate_python({code: {}})


def test_the_schema_says_the_same_as_the_check() -> None:
    schema = OWN.json_schema()
    texts = schema["additionalProperties"]["properties"]
    assert texts.keys() == PLACEHOLDERS.keys()
    for key, places in PLACEHOLDERS.items():
        pattern = re.compile(texts[key]["pattern"])
        good = "Said: " + " ".join(f"{{{place}}}" for place in places)
        assert pattern.fullmatch(good) and checked_text(key, good) == good
        assert not pattern.fullmatch("{other}") and not pattern.fullmatch("a\nb")


def test_placeholders_are_told_in_their_order() -> None:
    assert placeholders("{b} and {a}, {b}") == ["b", "a", "b"]

"""Every sentence in every language: whole, with its placeholders, on one line; values as each language writes them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest

from config.phrases import CHARS_MAX, PLACEHOLDERS, placeholders
from gateway.language import Count, Language, Link, Pace, Usd, Wait, Word, language_of, sentence, shipped

URL = "https://fare.example/account?token=abc"
VALUES: dict[str, Any] = {
    "pace": Pace(20, "requests", 60),
    "wait": Wait(37),
    "url": Link(URL),
    "model": "vendor/large",
    "plan": "Free",
    "feature": Word("features", "web_search"),
    "limit": Usd(5 * 10**9),
    "asked": 101,
    "balance": Usd(4_000_000),
    "every": Word("every", "month"),
    "left": Usd(10**6),
    "amount": 1000,
    "date": datetime(2026, 12, 1, tzinfo=UTC),
    "request": "01a1ff63",
    "percent": 83,
}
LANGUAGES = sorted(shipped())
EACH = [(code, key) for code in LANGUAGES for key in PLACEHOLDERS]


def _document(code: str) -> dict[str, Any]:
    return dict(shipped()[code]._document)


def test_four_languages_are_shipped() -> None:
    assert {"en", "fa", "de", "zh"} <= set(LANGUAGES)
    assert [code for code in LANGUAGES if shipped()[code].direction == "rtl"] == ["fa"]


@pytest.mark.parametrize(("code", "key"), EACH)
def test_every_sentence_is_there_in_every_language(code: str, key: str) -> None:
    text = _document(code)["sentences"][key]
    assert sorted(placeholders(text)) == sorted(PLACEHOLDERS[key])
    assert 0 < len(text) <= CHARS_MAX
    said = shipped()[code].say(sentence(key, **{name: VALUES[name] for name in PLACEHOLDERS[key]}))
    assert "{" not in said and not [each for each in said if unicodedata.category(each) in ("Cc", "Zl", "Zp")]
    assert said.count("\u2067") + said.count("\u2068") == said.count("\u2069")
    # The address comes last, so that it is found and copied; nothing but the end of an isolate is behind it.
    if "url" in PLACEHOLDERS[key]:
        assert said.rstrip("\u2069").endswith(URL)
    if "wait" in PLACEHOLDERS[key]:
        assert "37" in said


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_language_has_more_or_less_than_english(code: str) -> None:
    ours, english = _document(code), _document("en")
    assert ours.keys() == english.keys()
    for table, words in english.items():
        if isinstance(words, dict):
            assert ours[table].keys() == words.keys(), table
            for key, text in words.items():
                assert sorted(placeholders(ours[table][key])) == sorted(placeholders(text)), (table, key)
    assert set(ours["sentences"]) == set(PLACEHOLDERS)


@pytest.mark.parametrize("code", LANGUAGES)
def test_digits_and_amounts_stay_latin(code: str) -> None:
    language = shipped()[code]
    said = [language.text(value) for value in VALUES.values()]
    assert not [text for text in said if any(each.isdigit() and not each.isascii() for each in text)]
    assert language.text(Usd(4_000_000)) == "0.0040 USD"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3601, "61 min"),
        (7200, "2 h"),
        (172_800, "2 days"),
        (172_801, "3 days"),
    ],
)
def test_a_wait_is_told_in_a_unit_that_fits_and_rounded_up(seconds: int, said: str) -> None:
    assert language_of("en").text(Wait(seconds)) == said


def test_dates_are_written_as_each_language_does() -> None:
    day = datetime(2026, 12, 1, 23, tzinfo=UTC)
    told = {code: shipped()[code].text(day) for code in ("en", "de", "zh", "fa")}
    assert told == {"en": "2026-12-01", "de": "01.12.2026", "zh": "2026年12月1日", "fa": "2026-12-01"}


def test_a_pace_of_any_length_can_be_said() -> None:
    english = language_of("en")
    assert english.text(Pace(5_000_000, "cost", 86_400)) == "0.0050 USD per day"
    assert english.text(Pace(9, "input_tokens", 90)) == "9 input tokens per 90 s"
    assert shipped()["zh"].text(Pace(20, "requests", 60)) == "每分钟 20 次请求"


def test_what_runs_the_other_way_is_isolated_in_both_directions() -> None:
    persian = shipped()["fa"].say(sentence("balance_short", balance=Usd(10**9), url=Link(URL)))
    assert "\u20681.0000 USD\u2069" in persian and persian.endswith(f"\u2068{URL}\u2069\u2069")
    english = language_of("en").say(sentence("tokens_none", plan="حرفه‌ای", url=Link(URL)))
    assert "(\u2068حرفه‌ای\u2069)" in english and english.endswith(URL)
    assert "\u2068" not in shipped()["de"].say(sentence("tokens_none", plan="Frei", url=Link(URL)))


def test_a_sentence_from_right_to_left_keeps_its_order_where_lines_run_from_left_to_right() -> None:
    for code, language in shipped().items():
        said = language.say(sentence("balance_short", balance=Usd(10**9), url=Link(URL)))
        assert (said[0], said[-1]) == ("\u2067", "\u2069") if code == "fa" else "\u2067" not in said


def test_a_value_is_never_taken_for_a_place() -> None:
    said = language_of("en").say(sentence("tokens_none", plan="{url} \\1", url=Link(URL)))
    assert said == f"Your plan ({{url}} \\1) includes no tokens. Upgrade: {URL}"


def test_a_text_of_the_tiers_own_comes_first() -> None:
    said = language_of("en").say(sentence("internal"), {"internal": "Oh dear."})
    assert said == "Oh dear."
    assert language_of("en").say(sentence("internal"), {"interrupted": "Oh dear."}) != "Oh dear."


@pytest.mark.parametrize(
    ("codes", "found"),
    [(("fa-IR",), "fa"), (("ZH_cn",), "zh"), (("xx", "de"), "de"), (("xx",), "en"), (("",), "en"), ((), "en")],
)
def test_an_unknown_language_falls_back(codes: tuple[str, ...], found: str) -> None:
    assert language_of(*codes).code == found


def test_a_feature_nobody_translated_is_said_by_its_name() -> None:
    assert language_of("de").text(Word("features", "smell")) == "smell"
    assert language_of("de").text(Count(3)) == "3 Tokens"


def test_pages_know_their_words() -> None:
    language: Language = shipped()["de"]
    assert language.known("prices") and not language.known("nothing of the kind")
    assert language.words("from_tier", plan="Pro") == "ab Pro"

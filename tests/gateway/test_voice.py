"""A refusal in a person's own words: language, the tier's texts, links."""

from __future__ import annotations

from uuid import UUID

import pytest

from config.catalog import Catalog
from gateway import sentences
from gateway.errors import Refusal
from gateway.language import Link, sentence
from gateway.links import Links
from gateway.voice import Voice
from policies.principal import Principal
from policies.tier import Tier

OWN = {"de": {"balance_short": "Nur noch {balance}. {url}"}, "fr": {"internal": "Zut."}, "en": {"internal": "Oh dear."}}
CATALOG = Catalog(tiers={"free": Tier("free"), "own": Tier("own", sentences=OWN)})
LINKS = Links(b"pepper" * 8, "https://fare.example", 900)
PRICING = "https://fare.example/pricing"


def who(language: str = "en", tier: str = "free", acted_by: str = "") -> Principal:
    named = ("local", "s", "", "Ada", "user", tier, "active", language)
    return Principal(UUID(int=1), UUID(int=2), *named, acted_by=acted_by)


@pytest.fixture
def voice() -> Voice:
    return Voice(lambda: CATALOG, "de", LINKS)


def poor(url: str = PRICING) -> Refusal:
    return sentences.without_money(0, 1, Tier("free"), url, None, None)


@pytest.mark.parametrize(
    ("language", "begins"),
    [
        ("en", "Your balance"),
        ("zh", "您的余额"),
        ("fa-IR", "\u2067موجودی شما"),
        ("xx", "Ihr Guthaben"),
        ("", "Ihr Guthaben"),
    ],
)
def test_a_person_reads_the_own_language_else_the_houses(voice: Voice, language: str, begins: str) -> None:
    assert voice.put(poor(), who(language)).message.startswith(begins)


def test_nobody_in_particular_reads_the_houses_language(voice: Voice) -> None:
    assert voice.put(poor()).message.startswith("Ihr Guthaben")
    assert voice.put(Refusal.of("account_suspended", sentence("account_suspended"), language="zh")).message[0] == "此"


@pytest.mark.parametrize(
    ("language", "key", "said"),
    [
        ("de", "balance", "Nur noch 0.0000 USD."),
        ("de-AT", "balance", "Nur noch 0.0000 USD."),
        ("xx", "balance", "Nur noch 0.0000 USD."),
        ("en", "balance", "Your balance of"),
        ("fr", "internal", "Zut."),
        ("en", "internal", "Oh dear."),
        ("zh", "internal", "这里出了点问题"),
    ],
)
def test_a_tiers_own_text_is_said_in_the_readers_language(voice: Voice, language: str, key: str, said: str) -> None:
    refusal = poor() if key == "balance" else Refusal.of("internal", sentence("internal"))
    assert voice.put(refusal, who(language, "own")).message.startswith(said)


def test_the_link_is_the_readers_own_in_words_and_details(voice: Voice) -> None:
    refusal = voice.put(poor(), who())
    url = refusal.details["upgrade_url"]
    opened = LINKS.read(url.partition("token=")[2])
    assert opened is not None and opened.user_id == UUID(int=1)
    assert refusal.message.endswith(url)


def test_an_address_of_somebody_elses_learns_nothing(voice: Voice) -> None:
    refusal = voice.put(poor("https://shop.example/buy"), who())
    assert refusal.details["upgrade_url"] == "https://shop.example/buy" and "token" not in refusal.message


def test_nobody_who_acts_as_somebody_gets_a_link(voice: Voice) -> None:
    refusal = voice.put(poor(), who(acted_by="root"))
    assert refusal.details["upgrade_url"] == PRICING and refusal.message.endswith(PRICING)


def test_what_is_no_sentence_stays_as_it_is(voice: Voice) -> None:
    assert (
        voice.put(Refusal.of("invalid_request", "The field n is wrong."), who("fa")).message == "The field n is wrong."
    )


def test_a_voice_without_a_house_speaks_english() -> None:
    assert Voice().put(poor(), who("xx")).message.endswith(PRICING)
    assert Voice().say(sentence("notice_balance", balance=1, url=Link(PRICING))).startswith("Your balance")


def test_a_refusal_nobody_put_into_words_speaks_english() -> None:
    assert str(poor()) == poor().message and poor().message.startswith("Your balance")

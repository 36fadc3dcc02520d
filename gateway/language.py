"""Sentences as values, and the languages that put them into words. Pure.

Whoever refuses says which sentence it is and what belongs into it; the words are made where the refusal leaves, for
nobody but the one who reads them. The texts lie in `languages/`, a file for each language; digits stay Latin in all of
them. What is written in the other direction than its sentence (an address or an amount in a Persian one) is isolated,
so that neither turns the other around; and a sentence from right to left as a whole, because it is also read where
lines run from left to right, which would set its full stop before it and its address beside its beginning.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from config.phrases import PLACEHOLDER
from ledger.money import format_usd

FALLBACK = "en"
_ISOLATE, _END = "\u2068", "\u2069"
_FROM_THE_RIGHT = "\u2067"
_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))
_NO_TEXTS: Mapping[str, str] = {}
# A value is told by its class, also where a simulation has put its own clock in the place of ``datetime``.
_Instant = datetime


class Sentence(NamedTuple):
    """A sentence of `config.phrases.PLACEHOLDERS` and what stands in it."""

    key: str
    values: Mapping[str, Any]


def sentence(key: str, **values: Any) -> Sentence:
    """The sentence with these values: text, whole numbers, instants (shown as a date in UTC), or one of those below."""
    return Sentence(key, values)


class Usd(NamedTuple):
    """An amount; nano-USD."""

    nano: int


class Count(NamedTuple):
    """So many tokens, requests, …: ``of`` as a window has it."""

    n: int
    of: str = "tokens"


class Pace(NamedTuple):
    """At most so many (nano-USD of a cost) in so many seconds."""

    limit: int
    of: str
    seconds: int


class Wait(NamedTuple):
    """A time to wait."""

    seconds: int


class Word(NamedTuple):
    """One word of a table of the language's file."""

    table: str
    name: str


class Link(NamedTuple):
    """Where somebody goes for more."""

    url: str


class Language:
    """One language, as its file has it."""

    def __init__(self, code: str, document: Mapping[str, Any]) -> None:
        self.code = code
        self.name: str = document["name"]
        self.direction: str = document["direction"]
        self._document = document

    def say(self, said: Sentence, own: Mapping[str, str] = _NO_TEXTS) -> str:
        """The sentence in words; ``own`` are texts that come before those of the file."""
        text = self._filled(own.get(said.key) or self._document["sentences"][said.key], said.values)
        return f"{_FROM_THE_RIGHT}{text}{_END}" if self.direction == "rtl" else text

    def words(self, key: str, **values: Any) -> str:
        """A text of the pages."""
        return self._filled(self._document["page"][key], values)

    def known(self, key: str) -> bool:
        """Whether the pages have a text of this name."""
        return key in self._document["page"]

    def text(self, value: Any) -> str:
        """A value as this language writes it."""
        match value:
            case Usd(nano):
                return self._amount("cost", format_usd(nano))
            case Count(n, of):
                return self._amount(of, str(n))
            case Pace():
                return self._pace(value)
            case Wait(seconds):
                return self._wait(seconds)
            case Word(table, name):
                return str(self._document[table].get(name, name))
            case Link(url):
                return url
            case _Instant():
                day = value.astimezone(UTC)
                return str(self._document["date"].format(year=day.year, month=day.month, day=day.day))
        return str(value)

    def isolated(self, text: str) -> str:
        """The text, fenced in where it holds letters or digits that run the other way."""
        return f"{_ISOLATE}{text}{_END}" if any(map(self._strange, text)) else text

    def _filled(self, text: str, values: Mapping[str, Any]) -> str:
        return PLACEHOLDER.sub(lambda place: self.isolated(self.text(values[place[1]])), text)

    def _strange(self, character: str) -> bool:
        if self.direction == "rtl":
            return character.isascii() and character.isalnum()
        return unicodedata.bidirectional(character) in _RIGHT_TO_LEFT

    def _amount(self, of: str, number: str) -> str:
        return str(self._document["amounts"][of].format(n=number))

    def _pace(self, pace: Pace) -> str:
        per: Mapping[str, str] = self._document["per"]
        span = per.get(str(pace.seconds)) or per["other"].format(n=pace.seconds)
        shown = format_usd(pace.limit) if pace.of == "cost" else str(pace.limit)
        return str(self._document["pace"].format(amount=self._amount(pace.of, shown), per=span))

    def _wait(self, seconds: int) -> str:
        """In the largest unit of which it has at least two, rounded up."""
        for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * length:
                return str(self._document["waits"][unit].format(n=-(-seconds // length)))
        return str(self._document["waits"]["seconds"].format(n=seconds))


@cache
def shipped() -> Mapping[str, Language]:
    """The languages there are, by code."""
    folder = files("gateway").joinpath("languages")
    found = sorted(each.name for each in folder.iterdir() if each.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): Language(
            name.removesuffix(".toml"), tomllib.loads(folder.joinpath(name).read_text("utf-8"))
        )
        for name in found
    }


def language_of(*codes: str) -> Language:
    """The first of these that there is (``fa-IR`` is ``fa``), else English."""
    known = shipped()
    for code in codes:
        for each in (code.lower(), code.lower().replace("_", "-").partition("-")[0]):
            if each in known:
                return known[each]
    return known[FALLBACK]

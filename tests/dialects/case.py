"""One habit of one kind of backend, as a value: what it sends, and what of it is to be charged.

Cases are written down in the files beside this one, by hand and from what vendors document; nothing in them was
computed by the code they test. Here is what they share: the request, the frame, the ways of cutting, the prices.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import msgspec

from gateway.meter import Reading
from gateway.sse import LINE_BYTES_MAX
from gateway.surface import Cost, Meter, Request, Surface, Tap
from gateway.surfaces import SURFACES
from ledger.price import Price
from ledger.usage import KINDS, Usage, UsageSource
from tests.gateway.forms import CONTENT_TYPE, file, form, part
from tests.gateway.test_duration import wav

COUNTED_INPUT = 1009
"""Tokens of a request where the backend does not say them; an answer has as many as it has letters."""
SECONDS_SENT = 3
NAMED = ("responses", "messages")
"""Routes whose events have names and whose streams end without `[DONE]`."""
NEWLINES = (b"\n", b"\r\n", b"\r")
MARKED = ("chat.completions", "completions", "embeddings", "rerank")

_BY_ROUTE = {surface.route: surface for surface in SURFACES}
_ASKED: dict[str, dict[str, Any]] = {
    "chat.completions": {"messages": [{"role": "user", "content": "hello"}], "stream_options": {"include_usage": True}},
    "completions": {"prompt": "Once", "stream_options": {"include_usage": True}},
    "embeddings": {"input": ["one", "two"]},
    "responses": {"input": "hello"},
    "messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 512},
    "messages.count_tokens": {"messages": [{"role": "user", "content": "hello"}]},
    "rerank": {"query": "which", "documents": ["one", "two"]},
    "audio.speech": {"input": "Grüß Gott", "voice": "alloy"},
    "images.generations": {"prompt": "a boat"},
    "moderations": {"input": "hello"},
}


@dataclass(frozen=True)
class Case:
    """`sends` is a stream's events (an object is one event, bytes are lines as they stand) or, `whole`, the one reply.

    `asks` is added to the usual request. `newlines` are the line ends with which the bytes pass unchanged.
    """

    name: str
    route: str
    usage: Usage
    sends: Any
    source: UsageSource = UsageSource.REPORTED
    variant: str = ""
    problems: tuple[str, ...] = ()
    asks: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False
    failed: bool = False
    newlines: tuple[bytes, ...] = NEWLINES
    house: bool = False
    """Also tried through a whole Farebox."""

    @property
    def surface(self) -> Surface:
        return _BY_ROUTE[self.route]

    @property
    def reading(self) -> Reading:
        """What is to be charged."""
        return Reading(self.usage, self.source, self.problems)

    def asked(self, model: str = "m") -> tuple[bytes, str]:
        """The request's body and its content type."""
        asks = {"model": model, **({} if self.whole else {"stream": True}), **self.asks}
        if self.route in ("audio.transcriptions", "audio.translations"):
            parts = [part(name, str(value).lower().encode()) for name, value in asks.items()]
            return form(*parts, file("file", wav(SECONDS_SENT - 0.5))), CONTENT_TYPE
        if self.route == "images.edits":
            parts = [part(name, str(value).lower().encode()) for name, value in asks.items()]
            return form(*parts, part("prompt", b"a boat"), file("image", b"\x89PNG", "a.png")), CONTENT_TYPE
        return json.dumps({**_ASKED[self.route], **asks}).encode(), "application/json"

    def request(self, **more: Any) -> Request:
        """The request as its surface reads it."""
        body, content_type = self.asked()
        if more:
            body = json.dumps({**json.loads(body), **more}).encode()
        return self.surface.parse(body, content_type)

    def sent(self, newline: bytes = b"\n") -> bytes:
        """The bytes of the reply."""
        if isinstance(self.sends, bytes):
            return self.sends
        if self.whole:
            return json.dumps(self.sends).encode()
        events = [framed(each, self.route, newline) for each in self.sends]
        return b"".join([*events, *([b"data: [DONE]" + newline * 2] if self.route in MARKED else [])])


def framed(event: Any, route: str, newline: bytes = b"\n") -> bytes:
    """One event as this route's backends write it. Bytes are lines as they stand, but for their ends."""
    if isinstance(event, bytes):
        return event.replace(b"\n", newline)
    # Not as ASCII: a character of several bytes is something that a network cuts.
    data = b"data: " + json.dumps(event, ensure_ascii=False).encode() + newline * 2
    return b"event: " + str(event["type"]).encode() + newline + data if route in NAMED else data


def cuts(sent: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The stream whole, in ones, threes and sevens, and inside each character and line end."""
    yield "whole", [sent]
    for size in (1, 3, 7):
        yield f"by {size}", [sent[at : at + size] for at in range(0, len(sent), size)]
    yield "inside", list(filter(None, re.split(rb"(?<=[\x80-\xff\r\n])", sent)))


def letters(text: str) -> int:
    """A count that needs no vocabulary."""
    return len(text)


def no_money(usage: Usage) -> dict[str, Any] | None:
    """Shows no cost, so that nothing in a stream is changed."""
    return None


def tapped(case: Case, request: Request, cost: Cost = no_money) -> Tap:
    """The way of this case's stream."""
    return case.surface.tap(request, letters, cost, LINE_BYTES_MAX)


def relayed(tap: Tap, pieces: list[bytes]) -> bytes:
    """Everything the caller gets of a reply that comes in these pieces."""
    passed = b"".join([*map(tap.feed, pieces)])
    return passed + tap.close() + tap.terminal


def read(meter: Meter) -> Reading:
    """What the meter makes of the call, as the pump asks it: nothing is counted that is sure."""
    if meter.sure:
        return meter.reading(0, 0)
    return meter.reading(COUNTED_INPUT, letters(meter.text()))


@cache
def price() -> Price:
    """A price with another prime for each kind and each variant: no two ways of charging come to the same."""
    found = primes()
    pico = {kind: next(found) for kind in KINDS}
    variants = {name: {kind: next(found) for kind in KINDS} for name in VARIANTS}
    return Price(1, "m", pico, per_request=next(found), variants=variants)


VARIANTS = ("flex", "priority", "batch", "fast", "scale", "1024x1792/hd", "1536x1024/high")
FACTOR_PPM = 1_300_021


def cost_of(usage: Usage, variant: str) -> int:
    """Nano-USD, by plain fractions."""
    table = price().variants[variant] if variant else price().pico
    pico = sum(Fraction(amount * table[kind]) for kind, amount in msgspec.structs.asdict(usage).items())
    return math.ceil(pico * FACTOR_PPM / 10**9) + price().per_request


def primes(above: int = 100_000) -> Iterator[int]:
    """The primes above a number."""
    number = above
    while True:
        number += 1
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
            yield number


def ids(cases: list[Case]) -> Callable[[Case], str]:
    """Names for pytest; each only once."""
    names = [f"{case.route}: {case.name}" for case in cases]
    assert len(set(names)) == len(names), "two cases have the same name"
    return lambda case: f"{case.route}: {case.name}"

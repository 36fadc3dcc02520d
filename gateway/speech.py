"""`/audio/speech`: a text read aloud. Pure; sound is passed on unread, whatever its format.

Charged by the characters of `input`, counted as Unicode code points. Where the backend tells tokens (`stream_format` is
"sse", the event `speech.audio.done`), those are charged and the characters are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from config.catalog import Model
from gateway.envelope import ChatEnvelope
from gateway.fields import BadRequest, model_of, read, split
from gateway.meter import Count
from gateway.plain import PlainRequest, rewrite, text_tokens
from gateway.sse import BOM
from gateway.surface import Cost, Surface
from gateway.units import Report, UnitMeter, UnitTap, read_json, tokens
from ledger.usage import Usage

if TYPE_CHECKING:
    from gateway.counting import Counting

_LAST = re.compile(rb'"type"\s*:\s*"speech\.audio\.done"')
_FIELDS = (b"data:", b"event:", b"id:", b"retry:")
_NAME_BYTES = max(map(len, _FIELDS))
_HEAD_BYTES = 64  # blank lines may stand before the first field; sound with so many of them is not waited for


class SpeechRequest(PlainRequest, frozen=True, kw_only=True):
    """A text to be read aloud. `stream` tells that events were asked for, and not plain sound."""

    input: str

    features: ClassVar[frozenset[str]] = frozenset({"audio"})

    @property
    def known(self) -> Usage:
        """What is charged where no tokens are told."""
        return Usage(characters=len(self.input))


class RawTap:
    """A reply that is only passed on. That its first bytes came is all there is to know of it."""

    done = False
    failed = False
    terminal = b""

    def __init__(self, meter: UnitMeter) -> None:
        self.meter = meter

    def feed(self, data: bytes) -> bytes:
        self.meter.begun = True
        return data

    def close(self) -> bytes:
        return b""


class SpeechTap:
    """Sound or events, whichever comes: not every backend knows `stream_format`, so the first bytes decide.

    No sound file begins like a field of an event stream; raw samples that do, by chance, pass the filter unchanged. A
    comment is but one byte, so it counts as one only where events were asked for.
    """

    def __init__(self, events: UnitTap, *, asked: bool) -> None:
        self.meter = events.meter
        self._events = events
        self._way: UnitTap | RawTap | None = None
        self._head = b""
        self._starts = (*_FIELDS, b":") if asked else _FIELDS

    @property
    def done(self) -> bool:
        return self._way is not None and self._way.done

    @property
    def failed(self) -> bool:
        return self._way is not None and self._way.failed

    @property
    def terminal(self) -> bytes:
        return self._way.terminal if self._way else b""

    def feed(self, data: bytes) -> bytes:
        """Take what the backend sent, return what the caller gets now. Raises sse.EventTooLarge."""
        if self._way is None:
            self._head += data
            if len(self._start) < _NAME_BYTES and len(self._head) < _HEAD_BYTES:
                return b""
            return self._decide()
        return self._way.feed(data)

    def close(self) -> bytes:
        """The backend has ended: what still waited."""
        held = self._decide() if self._way is None and self._head else b""
        return held + (self._way.close() if self._way else b"")

    @property
    def _start(self) -> bytes:
        """What tells sound from events: the same bytes, however many came at once."""
        return self._head[:_HEAD_BYTES].removeprefix(BOM).lstrip(b"\r\n")

    def _decide(self) -> bytes:
        events = self._start.startswith(self._starts)
        head, self._head = self._head, b""
        self._way = self._events if events else RawTap(self.meter)
        return self._way.feed(head)


class _Reply(msgspec.Struct):
    usage: Any = None


def parse(body: bytes, content_type: str) -> SpeechRequest:
    """Read a speech request. Raises BadRequest."""
    fields = split(body)
    text = read(fields, "input", str, "a text")
    if not text:
        raise BadRequest("The field input is missing: give the text to read aloud.", "input")
    return SpeechRequest(
        body=body,
        fields=fields,
        model=model_of(fields),
        stream=read(fields, "stream_format", str, "a text") == "sse",
        text_bytes=len(text.encode()),
        input=text,
    )


async def foresee(request: SpeechRequest, model: Model, counting: Counting) -> Usage:
    """The characters, and the tokens they are for a model that is priced by those."""
    count = await text_tokens([request.input], request.text_bytes, model, counting)
    return msgspec.structs.replace(request.known, input=count)


async def count_input(request: SpeechRequest, model: Model, counting: Counting) -> int:
    """The input's tokens where they were not reported."""
    return (await foresee(request, model, counting)).input_tokens


def tap(request: SpeechRequest, count: Count, cost: Cost, event_bytes_max: int) -> SpeechTap:
    """The way of any reply that is not JSON."""
    return SpeechTap(UnitTap(_meter(request), cost, event_bytes_max, last=_LAST), asked=request.stream)


def whole(request: SpeechRequest, body: bytes, content_type: str, count: Count) -> UnitMeter:
    """Meter a reply that was read whole: JSON about sound, with or without usage, or no reply at all."""
    meter, reply = _meter(request), read_json(body, _Reply)
    if reply is not None and isinstance(reply.usage, dict):
        meter.report(reply.usage)
    return meter


def _meter(request: SpeechRequest) -> UnitMeter:
    return UnitMeter(request.known, read=_sound_tokens)


def _sound_tokens(raw: Mapping[str, Any]) -> Report:
    """All output is sound, whether or not the report says so."""
    usage, problems = tokens(raw)
    if usage is not None:
        usage = msgspec.structs.replace(usage, output=0, audio_out=usage.audio_out + usage.output)
    return usage, problems


SURFACE = Surface(
    route="audio.speech",
    path="/audio/speech",
    kind="speech",
    parse=parse,
    rewrite=rewrite,
    foresee=foresee,
    count=count_input,
    tap=tap,
    whole=whole,
    envelope=ChatEnvelope(),
    reply="raw",
)

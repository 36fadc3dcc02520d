"""`/audio/transcriptions` and `/audio/translations`: speech written down. Pure; the form goes on as it came.

Charged by what the backend tells, tokens or seconds, else by the playing time: the reply's own `duration`, or that of
the file where the reply is a bare text or subtitles.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from config.catalog import Model
from gateway import multipart
from gateway.duration import SECONDS_MAX, Length, length
from gateway.envelope import ChatEnvelope
from gateway.fields import BadRequest
from gateway.meter import Count
from gateway.plain import text_tokens
from gateway.stored import Body
from gateway.surface import Cost, Surface
from gateway.units import Report, UnitMeter, UnitTap, read_json, tokens
from ledger.usage import Usage, UsageSource

if TYPE_CHECKING:
    from gateway.counting import Counting

AUDIO_TOKENS_PER_S = 10  # what OpenAI's models make of a second of sound

_LAST = re.compile(rb'"type"\s*:\s*"transcript\.text\.done"')
_TEXTS = ("text", "srt", "vtt")


class TranscriptionRequest(msgspec.Struct, frozen=True):
    """Sound to be written down, and how long it plays."""

    form: multipart.Form
    model: str
    stream: bool
    response_format: str
    prompt: str
    length: Length

    n: ClassVar[int] = 1
    asked_output: ClassVar[int | None] = None
    include_usage: ClassVar[bool] = True
    features: ClassVar[frozenset[str]] = frozenset({"audio"})

    @property
    def text_bytes(self) -> int:
        return len(self.prompt.encode())

    @property
    def known(self) -> Usage:
        """What is charged where the backend tells nothing: begun seconds, one at least."""
        return Usage(seconds=max(1, math.ceil(self.length.seconds)))


class _Reply(msgspec.Struct):
    usage: Any = None
    duration: Any = None


def parse(body: Body, content_type: str) -> TranscriptionRequest:
    """Read a request, a form with one file. Raises BadRequest."""
    form = multipart.parse(body, content_type)
    files = form.files
    if len(files) != 1 or files[0].name != "file":
        raise BadRequest("A transcription needs exactly one file, in the field file.", "file")
    return TranscriptionRequest(
        form=form,
        model=form.model(),
        stream=form.flag("stream"),
        response_format=form.text("response_format") or "json",
        prompt=form.text("prompt") or "",
        length=length(form.content(files[0])),
    )


def rewrite(request: TranscriptionRequest, model: str, output_cap: int | None) -> Body:
    """The form for a backend that knows the model by this name. What was said cannot be capped."""
    return request.form.body if model == request.model else request.form.replaced({"model": model})


async def foresee(request: TranscriptionRequest, model: Model, counting: Counting) -> Usage:
    """The seconds, and what they and the prompt are in tokens for a model that is priced by those."""
    text = await text_tokens([request.prompt], request.text_bytes, model, counting)
    seconds = request.known.seconds
    return Usage(input=text, audio_in=seconds * AUDIO_TOKENS_PER_S, seconds=seconds)


async def count_input(request: TranscriptionRequest, model: Model, counting: Counting) -> int:
    """The input's tokens where they were not reported."""
    return (await foresee(request, model, counting)).input_tokens


def tap(request: TranscriptionRequest, count: Count, cost: Cost, event_bytes_max: int) -> UnitTap:
    """The way of a stream: pieces of text pass at once, the whole text ends it."""
    return UnitTap(_meter(request), cost, event_bytes_max, last=_LAST)


def whole(request: TranscriptionRequest, body: bytes, content_type: str, count: Count) -> UnitMeter:
    """Meter a whole reply, JSON or not. A bare text is never read: who speaks could say a usage."""
    meter = _meter(request)
    reply = None if request.response_format in _TEXTS else read_json(body, _Reply)
    if reply is not None and isinstance(reply.usage, dict):
        meter.report(reply.usage)
    if reply is not None and reply.duration is not None:
        _take_duration(meter, reply.duration)
    return meter


def _meter(request: TranscriptionRequest) -> UnitMeter:
    source = UsageSource.COUNTED if request.length.exact else UsageSource.ESTIMATED
    return UnitMeter(request.known, source, _tokens_or_seconds)


def _take_duration(meter: UnitMeter, duration: Any) -> None:
    seconds = _seconds(duration)
    if seconds is None:
        meter.problem("duration")
    else:
        meter.correct(Usage(seconds=seconds), UsageSource.REPORTED)


def _tokens_or_seconds(raw: Mapping[str, Any]) -> Report:
    """Seconds only where there are no tokens: one call is charged by one of the two."""
    if "seconds" not in raw or raw.get("type") == "tokens":
        # Here alone the details of the input are called by a name of their own.
        details = raw.get("input_token_details")
        return tokens(raw if details is None else {**raw, "input_tokens_details": details})
    seconds = _seconds(raw["seconds"])
    return (None, ("seconds",)) if seconds is None else (Usage(seconds=seconds), ())


def _seconds(value: Any) -> int | None:
    """Begun seconds, None for what is no number or no possible one. Neither NaN nor a truth is a number."""
    if isinstance(value, str) and len(value) <= 32:
        value = _number(value)  # some backends write verbose_json's duration as a text
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= SECONDS_MAX:
        return None
    return math.ceil(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _surface(name: str) -> Surface:
    return Surface(
        route=f"audio.{name}",
        path=f"/audio/{name}",
        kind="transcription",
        parse=parse,
        rewrite=rewrite,
        foresee=foresee,
        count=count_input,
        tap=tap,
        whole=whole,
        envelope=ChatEnvelope(),
        reply="any",
        form=True,
    )


SURFACES = (_surface("transcriptions"), _surface("translations"))

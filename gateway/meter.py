"""The tap on the pipe: chunks in, what the call consumed out. Pure; a tap, not a valve.

Keeps what the backend reported and, beside it, the text it sent, so that an answer without usage can be counted. Knows
neither prices nor limits, and no tokenizer: counting is handed in, so that a caller decides where it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any, NamedTuple

import msgspec

from gateway import dialect
from gateway.chunk import Chunk, Delta, Function, decode
from ledger.usage import Usage, UsageSource

TEXT_CHARS_MAX = 256 * 1024  # kept for counting; above it the oldest slice is counted and let go
SLICE_CHARS = 64 * 1024
BYTES_PER_TOKEN = 3  # the running estimate: real tokenizers give 3.5 to 5 bytes for prose, and less only for odd text
FRESH_PIECES_MAX = 8  # pieces kept apart before they are folded into one text; a piece of a page folds at once
FRESH_CHARS_MAX = 4096
TIER_CHARS_MAX = 64  # a name longer than this is no service tier
_USUAL_TIERS = ("auto", "default", "standard")
ONE_CHOICE_MISSING_MIN = 48  # tokens a report must lack before it is taken to speak for one choice alone
_PARTS_DEPTH_MAX = 8
OF_ONE_CHOICE = "usage_of_one_choice"
"""The report spoke for one of several choices, as llama.cpp's does, which computes and writes them all."""

Count = Callable[[str], int]


class Reading(NamedTuple):
    """What a call consumed, how well that is known, and what was odd about the report (short stable words)."""

    usage: Usage
    source: UsageSource
    problems: tuple[str, ...] = ()


def variant_of(service_tier: str | None) -> str:
    """The price variant of a reply's service tier; empty for the usual one and for what cannot be a name."""
    if not service_tier:
        return ""
    tier = service_tier.strip().lower()
    return "" if tier in _USUAL_TIERS or len(tier) > TIER_CHARS_MAX or not tier.isprintable() else tier


class StreamMeter:
    """Reads the chunks of one call as they pass, or the one body of a reply that was not streamed."""

    __slots__ = (
        "_base",
        "_bytes",
        "_chars",
        "_choices",
        "_counted",
        "_counts",
        "_covered",
        "_deltas",
        "_fresh",
        "_problems",
        "_reported",
        "_text",
        "count",
        "service_tier",
    )

    def __init__(self, count: Count) -> None:
        """`count` gives the tokens of a text; it is called here only for answers longer than TEXT_CHARS_MAX."""
        self.count = count
        self.service_tier: str | None = None
        self._counts: dialect.Counts = {}
        self._problems: tuple[str, ...] = ()
        self._reported: dialect.Report | None = None  # what both of these come to, once somebody asked
        self._covered = False  # the last report came with or after the last text
        self._choices = 1  # how many answers there are, as their numbers tell
        self._fresh: list[str] = []  # pieces not yet folded into the text
        self._text = StringIO()
        self._chars = 0
        self._counted = 0  # tokens of text that is no longer kept
        self._base = 0  # output tokens known exactly, up to which `_bytes` and `_deltas` were set back
        self._bytes = 0
        self._deltas = 0

    def take(self, chunk: Chunk) -> None:
        """Read one chunk. Text comes before usage: a report speaks for the chunk it stands in."""
        if chunk.choices:
            for choice in chunk.choices:
                if choice.index >= self._choices:
                    self._choices = choice.index + 1
                delta = choice.delta or choice.message
                if delta is not None:
                    content = delta.content
                    if content:
                        self._add(content if type(content) is str else "".join(_strings(content)))
                    self._beside(delta)
                if choice.text:
                    self._add(choice.text)
                if choice.usage is not None:
                    self._report(choice.usage)
        if chunk.usage is not None:
            self._report(chunk.usage)
        if chunk.x_groq is not None and chunk.x_groq.usage is not None:
            self._report(chunk.x_groq.usage)
        if chunk.service_tier is not None:
            self.service_tier = chunk.service_tier

    @property
    def reported(self) -> Usage | None:
        """What the backend has reported so far, or None."""
        report = self._so_far()
        return None if report is None else report.usage

    @property
    def variant(self) -> str:
        """What sets the price beside the kind: the service tier that the reply names."""
        return variant_of(self.service_tier) if self.service_tier else ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What was odd in the reports so far."""
        report = self._so_far()
        return self._problems if report is None else report.problems

    @property
    def sure(self) -> bool:
        """Whether the reports alone say what was consumed, so that nothing need be counted."""
        report = self._so_far()
        return report is not None and self._choices == 1 and report.input_known and self._output_sure(report)

    def text(self) -> str:
        """The answer's text that is kept and not yet counted, at most TEXT_CHARS_MAX characters."""
        self._fold()
        return self._text.getvalue()

    def estimate(self) -> int:
        """Upper estimate of the output tokens so far, without counting any: cheap enough for every piece."""
        by_bytes = -(-self._bytes // BYTES_PER_TOKEN)
        return self._base + (by_bytes if by_bytes > self._deltas else self._deltas)

    def anchor(self, text_tokens: int) -> None:
        """Take an exact count of `text()`, made since the last chunk, as the ground of further estimates."""
        self._fold()
        self._base = max(self._base, self._counted + text_tokens)
        self._bytes = self._deltas = 0

    def reading(self, input_tokens: int, text_tokens: int) -> Reading:
        """Close the call: what was reported, and for what was not, what was counted.

        `input_tokens` is our count of the request and `text_tokens` our count of `text()`; neither is used when `sure`.
        A report that is older than the last text cannot make the output smaller than what was counted; nor can one that
        speaks for one of several choices.
        """
        report = self._so_far()
        known = report is not None and report.input_known and self._output_sure(report)
        if report is not None and known and self._choices == 1:
            return Reading(report.usage, UsageSource.REPORTED, report.problems)
        counted = Usage(input=input_tokens, output=self._counted + text_tokens)
        if report is None:
            return Reading(counted, UsageSource.COUNTED, self._problems)
        if not known:
            return Reading(_filled(report, counted), UsageSource.COUNTED, report.problems)
        if self._speaks_for_one(report.usage.output_tokens, counted.output):
            return Reading(self._of_all(report, counted), UsageSource.COUNTED, (*report.problems, OF_ONE_CHOICE))
        return Reading(report.usage, UsageSource.REPORTED, report.problems)

    def _so_far(self) -> dialect.Report | None:
        if self._reported is None and self._counts:
            self._reported = dialect.disjoint(self._counts, self._problems)
        return self._reported

    def _output_sure(self, report: dialect.Report) -> bool:
        if self._fresh:
            self._fold()
        return self._covered and (report.output_known or not self._chars)

    def _speaks_for_one(self, told: int, counted: int) -> bool:
        """Whether a number is nearer to the part of one choice than to all. Our vocabulary may be another one, and a
        report wins where it can be right: nothing is made of a small difference, and an explicit zero is a zero."""
        missing = counted - told
        nearer = 2 * self._choices * told < (self._choices + 1) * counted
        return self._choices > 1 and told > 0 and missing >= ONE_CHOICE_MISSING_MIN and nearer

    def _of_all(self, report: dialect.Report, counted: Usage) -> Usage:
        """The report raised to what was counted; its input too, if of several prompts it spoke for one."""
        usage, told = _filled(report, counted), report.usage.input_tokens
        if not self._speaks_for_one(told, counted.input):
            return usage
        return msgspec.structs.replace(usage, input=usage.input + counted.input - told)

    def _beside(self, delta: Delta) -> None:
        if delta.reasoning_content:
            self._add(delta.reasoning_content)
        elif delta.reasoning:  # some backends send the same words under both names
            self._add(delta.reasoning)
        if delta.refusal:
            self._add(delta.refusal)
        if delta.tool_calls is not None:
            for call in delta.tool_calls:
                self._function(call.function)
        if delta.function_call is not None:
            self._function(delta.function_call)

    def _function(self, function: Function | None) -> None:
        if function is None:
            return
        if function.name:
            self._add(function.name)
        if function.arguments:
            arguments = function.arguments
            self._add(arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode())

    def _add(self, text: str) -> None:
        self._deltas += 1
        self._bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        fresh = self._fresh
        fresh.append(text)
        if len(fresh) >= FRESH_PIECES_MAX or len(text) > FRESH_CHARS_MAX:
            self._fold()

    def _fold(self) -> None:
        fresh = self._fresh
        if not fresh:
            return
        text = fresh[0] if len(fresh) == 1 else "".join(fresh)
        fresh.clear()
        self._covered = self._covered and not text
        self._chars += len(text)
        self._text.write(text)
        if self._chars > TEXT_CHARS_MAX:
            self._let_go()

    def _let_go(self) -> None:
        text = self._text.getvalue()
        while len(text) > TEXT_CHARS_MAX - SLICE_CHARS:
            self._counted += self.count(text[:SLICE_CHARS])
            text = text[SLICE_CHARS:]
        self._text = StringIO()
        self._text.write(text)
        self._chars = len(text)

    def _report(self, raw: dict[str, Any]) -> None:
        counts, problems = dialect.read(raw)
        if problems:
            self._problems = tuple(dict.fromkeys(self._problems + problems))
        self._reported = None
        if not counts:
            return
        self._fold()
        self._counts = dialect.merge(self._counts, counts) if self._counts else counts
        self._covered = True
        report = self._so_far()
        told = report.usage.output_tokens if report else 0
        if self._choices == 1 or told > self.estimate():
            self._base = max(self._base, told)
            self._bytes = self._deltas = 0


def meter_reply(body: bytes, count: Count) -> StreamMeter:
    """Meter one whole JSON reply (chat, completions, embeddings); what is no JSON object has neither usage nor text."""
    return read_whole(StreamMeter(count), body)


def read_whole(meter: StreamMeter, body: bytes) -> StreamMeter:
    """The meter, which has taken the whole reply as one piece."""
    try:
        chunk = decode(body)
    except RecursionError:
        chunk = None
    if chunk is not None:
        meter.take(chunk)
    return meter


def _filled(report: dialect.Report, counted: Usage) -> Usage:
    """The report, with what it left out taken from our count; the output is never below either."""
    usage = report.usage
    if not report.input_known:
        usage = msgspec.structs.replace(usage, input=usage.input + counted.input)
    missing = max(0, counted.output - usage.output_tokens)
    return msgspec.structs.replace(usage, output=usage.output + missing)


def _strings(value: Any, depth: int = 0) -> list[str]:
    """The texts in a list of content parts, at any of the names backends use, down to a fixed depth."""
    if isinstance(value, str):
        return [value]
    if depth == _PARTS_DEPTH_MAX:
        return []
    if isinstance(value, dict):
        value = [value[name] for name in ("text", "thinking", "content") if name in value]
    return [text for each in value for text in _strings(each, depth + 1)] if isinstance(value, list) else []

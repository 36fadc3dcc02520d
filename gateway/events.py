"""Streams whose events have names (OpenAI Responses, Anthropic Messages): how one event is read, and what leaves last.

Pure. Everything that ``filter.py`` does to a stream of chunks is done here too; what differs is the frame. An event is
named by a line before its data, and the answer ends with an event that may carry the whole of it. That event, name and
all, waits in `terminal` until the call is settled; if another answer begins behind it, it had only ended the first.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import UNSET

from gateway import dialect
from gateway.chunk import Chunk, with_usage_members, without_guarded_keys
from gateway.filter import BLANKS, TERMINAL_BYTES_MAX, Cost, StreamFilter, guarded_in, rewritten
from gateway.meter import Count, Reading, StreamMeter
from gateway.sse import DONE, LINE_BYTES_MAX
from gateway.sse import payload as data_of
from ledger.usage import KINDS, Usage, UsageSource

FIRST = frozenset(("response.created", "message_start"))
LAST = frozenset(("response.completed", "response.incomplete", "response.failed", "message_stop"))
FAILED = frozenset(("response.failed", "error"))
ANSWERS_MAX = 64  # one stream with more answers than this is a fault; the rest counts as one answer
_DATA, _NAME = b"data:", b"event:"


class Event(Chunk, gc=False):
    """One named event. What only some events have is kept as it came: the meters look into it with care."""

    type: Any = None
    delta: Any = None
    item: Any = None
    response: Any = None
    message: Any = None
    content_block: Any = None

    @property
    def name(self) -> str:
        return self.type if isinstance(self.type, str) else ""

    @property
    def usage_within(self) -> str | None:
        """Where the final usage stands: in a field of this name, "" for the event itself, None for nowhere."""
        if self.name in LAST:
            return "response" if isinstance(fields(self.response).get("usage"), dict) else None
        ends = self.name == "message_delta" and fields(self.delta).get("stop_reason") is not None
        return "" if ends and self.usage is not None else None


_fast = msgspec.json.Decoder(Event).decode


def fields(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def decode(payload: bytes) -> Event | None:
    """Read one JSON payload; None when it is no JSON, an empty event when it is no object. Raises RecursionError."""
    try:
        return _fast(payload)
    except (ValueError, RecursionError):
        return decode_text(payload.decode("utf-8", "replace"))


def decode_text(text: str) -> Event | None:
    """The same for decoded text, and as forgiving as Python's own reader. Raises RecursionError."""
    try:
        value = json.loads(text.strip())
    except ValueError:
        return None
    given = fields(value)
    usage, guarded = given.get("usage"), ("event", "selected_model_id")
    return Event(
        usage=usage if isinstance(usage, dict) else None,
        error=given.get("error"),
        **{name: given.get(name, UNSET) for name in guarded},
        **{name: given.get(name) for name in ("type", "delta", "item", "response", "message", "content_block")},
    )


def decode_object(body: bytes) -> dict[str, Any]:
    """A whole reply; empty when it is no JSON object that can be read."""
    try:
        return fields(msgspec.json.decode(body))
    except (ValueError, RecursionError):
        pass
    try:
        return fields(json.loads(body.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return {}


class EventMeter(StreamMeter):
    """What both kinds of named streams share: tools counted beside tokens, and more than one answer in a stream."""

    __slots__ = ("_answer", "_answers", "_earlier", "_ended", "_searches", "_searches_told")

    def __init__(self, count: Count) -> None:
        super().__init__(count)
        self._answer: Any = None  # the id of the answer being read
        self._answers = 1
        self._ended = False  # that answer's last event was seen
        self._earlier: Usage | None = None  # reported for answers before it
        self._searches = 0  # web searches seen to be done
        self._searches_told: int | None = None  # web searches as the backend counts them, beside its usage

    def reading(self, input_tokens: int, text_tokens: int) -> Reading:
        """As for any stream; searches that were seen count without a report too."""
        reading = super().reading(input_tokens, text_tokens)
        return reading if self._so_far() else reading._replace(usage=self._with_searches(reading.usage))

    def _with_searches(self, usage: Usage) -> Usage:
        seen = self._searches if self._searches_told is None else self._searches_told
        return msgspec.structs.replace(usage, web_searches=max(seen, usage.web_searches))

    def _so_far(self) -> dialect.Report | None:
        report = super()._so_far()
        if report is not None:
            report = report._replace(usage=self._with_searches(report.usage))
        if self._earlier is None:
            return report
        if report is None:
            return dialect.Report(self._earlier, False, False, self._problems)
        return report._replace(usage=_sum(self._earlier, report.usage))

    def _begin(self, answer: Any) -> None:
        """An answer's first event. Repeated it begins nothing: only another id behind an end is another answer."""
        if self._ended and answer != self._answer and self._answers < ANSWERS_MAX:
            self._earlier = self.reported or self._with_searches(Usage())
            self._counts, self._searches, self._searches_told = {}, 0, None
            self._reported = None
            self._answers += 1
        self._answer, self._ended = answer, False

    def _mark(self, problem: str) -> None:
        self._problems = tuple(dict.fromkeys((*self._problems, problem)))
        self._reported = None

    @property
    def _silent(self) -> bool:
        """Whether no text has come yet."""
        self._fold()
        return not self._chars and not self._counted


class EventFilter(StreamFilter):
    """The way of one named stream from backend to caller. Cost and balance go into the final usage wherever it stands.

    `done` is taken back where, behind an answer's last event, another answer begins.
    """

    __slots__ = ("_named", "_over")

    _decode = staticmethod(decode)
    _decode_text = staticmethod(decode_text)

    def __init__(self, meter: EventMeter, *, cost: Cost | None = None, event_bytes_max: int = LINE_BYTES_MAX) -> None:
        super().__init__(meter, usage_wanted=True, cost=cost, event_bytes_max=event_bytes_max)
        self._named = b""  # the name of an event whose data is still to come
        self._over = False  # [DONE] was seen: nothing begins behind it

    def _usual(self, data: bytes) -> bool:
        """Named events are read line by line."""
        return False

    def close(self) -> bytes:
        """The backend has ended: judge and return what still waited. Without a line end it gets none."""
        rest = self._reader.close()
        passed = self._pass(rest, [rest]) if rest else b""
        held = self._release(ended=True) if self._held else b""
        return self._route(passed, self._under_name(held))

    def _pass(self, block: bytes, lines: list[bytes]) -> bytes:
        now: list[bytes] = []
        for line in lines:
            was = self.done
            passed = self._judge(line)
            if was and not self.done:
                now.append(self._terminal)
                self._terminal = b""
            now.append(self._route(passed, b"") if not self.done else self._route(b"", passed))
        return b"".join(now)

    def _route(self, now: bytes, last: bytes) -> bytes:
        if not self.done:
            return now + last
        # The last event holds the whole answer once more, so it may be as large as an event can be.
        if len(self._terminal) + len(last) <= self._limit + TERMINAL_BYTES_MAX:
            self._terminal += last
        return now

    def _judge(self, line: bytes) -> bytes:
        if self._held and line not in BLANKS:
            return self._hold(line)
        if line.startswith(_NAME):
            name, self._named = self._named, b"" if b"{" in line and guarded_in(line) else line
            return name
        blank = line in BLANKS
        passed = self._end(line) if blank else self._data(line) if line.startswith(_DATA) else self._other(line)
        return b"" if self._held else self._under_name(passed)

    def _under_name(self, passed: bytes) -> bytes:
        """What passes, under its event's name. A name whose data does not pass would be an event without data."""
        name, self._named = self._named, b""
        return name + passed if passed else b""

    def _data(self, line: bytes) -> bytes:
        try:
            event = _fast(line[5:])
        except (ValueError, RecursionError):
            return self._odd(line)
        return self._chunk(line, event)

    def _odd(self, line: bytes) -> bytes:
        self._over = self._over or (data_of(line) or b"").strip() == DONE
        return super()._odd(line)

    def _chunk(self, line: bytes, chunk: Chunk) -> bytes:
        event = chunk if isinstance(chunk, Event) else Event()
        if self.done and not self._over and event.name in FIRST:
            self.done = False
        self._meter.take(event)
        passed = rewritten(line, without_guarded_keys) if event.guarded else line
        passed = self._with_money(passed, event)
        self.failed = self.failed or event.name in FAILED or bool(event.error)
        self.done = self.done or event.name in LAST
        return self._note(passed)

    def _with_money(self, line: bytes, event: Event) -> bytes:
        place = event.usage_within
        reported = None if place is None else self._meter.reported
        members = self._cost(reported) if self._cost and reported is not None else None
        if members is None or not line:
            return line
        return rewritten(line, lambda body: with_usage_members(body, members, place or None)) or line


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(**{kind: getattr(one, kind) + getattr(other, kind) for kind in KINDS})


NOTHING = Usage()


class FreeMeter:
    """The meter of a reply that consumes nothing."""

    sure = True
    variant = ""
    reported: Usage | None = NOTHING

    def estimate(self) -> int:
        return 0

    def text(self) -> str:
        return ""

    def anchor(self, text_tokens: int) -> None:
        """There is nothing to count."""

    def reading(self, input_tokens: int, text_tokens: int) -> Reading:
        return Reading(NOTHING, UsageSource.REPORTED)

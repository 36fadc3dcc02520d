"""What of a backend's event stream reaches the caller. Pure: bytes in, bytes out, and each chunk shown to the meter.

Whole lines pass at once and unchanged. Four things are altered or held: keys that Open WebUI would act on in the
user's browser are removed; a usage-only event the caller did not ask for is hidden; a final usage object that the
caller did ask for gets cost and balance; and everything from `[DONE]` on waits in `terminal`.

Two kinds of reader stand behind us. The event-stream format ends lines at LF, CRLF or a bare CR and joins the data
lines of an event; Open WebUI splits at LF alone and reads each line by itself. A line is judged as both would see it.
A data line that is not JSON by itself is held until its event ends, and dropped with it when a reading is unsafe.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from gateway.chunk import (
    GUARDED_KEYS,
    Chunk,
    decode,
    decode_text,
    fast_decode,
    with_usage_members,
    without_guarded_keys,
)
from gateway.meter import StreamMeter
from gateway.sse import BOM, DONE, LINE_BYTES_MAX, EventTooLarge, LineReader, payload
from ledger.usage import Usage

TERMINAL_BYTES_MAX = 64 * 1024  # after [DONE] nothing is due; what comes beyond this is let fall
HELD_LINES_MAX = 4096  # each weighs 50 bytes more than it has, and is read by itself: some 10 µs

Cost = Callable[[Usage], dict[str, Any] | None]
"""The members that say, beside the usage reported so far, what it costs and what is left; None: do not show any."""

BLANKS = (b"\n", b"\r\n", b"\r")
_CR = 0x0D
_DATA = b"data:"
_NEEDLES = (*(key.encode() for key in GUARDED_KEYS), b"\\u")
_PREFIXES = re.compile(r"[\s\ufeff]*(?:data:[\s\ufeff]*)*")
_FIELD_STARTS = b"deir"  # data, event, id, retry: no JSON token begins with these letters


class StreamFilter:
    """The way of one stream from backend to caller.

    `usage_wanted`: the caller asked for usage. `cost` is asked, at the moment a final usage passes, for the members to
    add to it, by the usage reported so far; None leaves the usage as it is.
    """

    # How one event is read; another kind of stream has other readers.
    _decode = staticmethod(decode)
    _decode_text = staticmethod(decode_text)

    __slots__ = (
        "_between",
        "_cost",
        "_dropped",
        "_held",
        "_held_bytes",
        "_limit",
        "_meter",
        "_open",
        "_reader",
        "_terminal",
        "_usage_wanted",
        "done",
        "failed",
    )

    def __init__(
        self,
        meter: StreamMeter,
        *,
        usage_wanted: bool,
        cost: Cost | None = None,
        event_bytes_max: int = LINE_BYTES_MAX,
    ) -> None:
        self.done = False  # [DONE] was seen
        self.failed = False  # an error object was seen in the stream
        self._meter = meter
        self._usage_wanted = usage_wanted
        self._cost = cost
        self._limit = event_bytes_max
        self._reader = LineReader(event_bytes_max)
        self._held: list[bytes] = []  # lines of an event that cannot be judged before it ends
        self._held_bytes = 0
        self._open = False  # something of the current event was forwarded
        self._dropped = False  # something of the current event was not
        self._between = True  # what comes next begins an event, and may pass
        self._terminal = b""

    @property
    def meter(self) -> StreamMeter:
        """What reads the stream."""
        return self._meter

    @property
    def terminal(self) -> bytes:
        """What leaves last, once the call is settled: `[DONE]` and what followed it."""
        return self._terminal

    def feed(self, data: bytes) -> bytes:
        """Take what the backend sent, return what the caller gets now. Raises EventTooLarge."""
        if self._between and self._usual(data):
            return data
        block, lines = self._reader.feed(data)
        passed = self._pass(block, lines) if lines else b""
        self._between = not (self._reader.waits or self._open or self._held or self._dropped or self.done)
        return passed

    def _usual(self, data: bytes) -> bool:
        """Take what nearly all of a stream is made of: one whole event of one line, of which nothing is altered or
        held. False: it is something else, and nothing of it was taken."""
        line, _, rest = data.partition(b"\n")
        # A slice is compared twice as fast as startswith looks, a number found five times as fast as a string of one.
        if rest != b"\n" or line[:5] != _DATA or _CR in line or len(line) >= self._limit:
            return False
        try:
            chunk = fast_decode(line[5:])
        except (ValueError, RecursionError):
            return False
        if chunk.usage is None and chunk.error is None and chunk.event is UNSET and chunk.selected_model_id is UNSET:
            self._meter.take(chunk)
            return True
        return False

    def close(self) -> bytes:
        """The backend has ended: judge and return what still waited. Without a line end it gets none."""
        rest = self._reader.close()
        passed = self._pass(rest, [rest]) if rest else b""
        held = self._release(ended=True) if self._held else b""
        return self._route(passed, held)

    def _pass(self, block: bytes, lines: list[bytes]) -> bytes:
        if self.done:
            return self._route(b"", b"".join(map(self._judge, lines)))
        changed: list[bytes] | None = None
        for index, line in enumerate(lines):
            if line == b"\n" and not self._held and not self._dropped:  # half of all lines: not worth a call
                self._open = False
                passed = line
            else:
                passed = self._judge(line)
            if self.done:
                now = b"".join(lines[:index] if changed is None else changed)
                return now + self._route(b"", passed + b"".join(map(self._judge, lines[index + 1 :])))
            if changed is not None:
                changed.append(passed)
            elif passed is not line:
                changed = [*lines[:index], passed]
        return block if changed is None else b"".join(changed)

    def _route(self, now: bytes, last: bytes) -> bytes:
        if not self.done:
            return now + last
        if len(self._terminal) + len(last) <= TERMINAL_BYTES_MAX:
            self._terminal += last
        return now

    def _judge(self, line: bytes) -> bytes:
        """One line: itself when it passes unchanged, else what takes its place; empty when it is held or dropped."""
        if len(line) < 3 and line in BLANKS:
            return self._end(line)
        if self._held:
            return self._hold(line)
        if line[:5] != _DATA:
            return self._other(line)
        try:
            chunk = fast_decode(line[5:])
        except (ValueError, RecursionError):
            return self._odd(line)
        if chunk.usage is None and chunk.error is None and chunk.event is UNSET and chunk.selected_model_id is UNSET:
            self._meter.take(chunk)
            self._open = True
            return line
        return self._chunk(line, chunk)

    def _chunk(self, line: bytes, chunk: Chunk) -> bytes:
        self._meter.take(chunk)
        passed = line
        if chunk.guarded:
            passed = rewritten(line, without_guarded_keys)
        if chunk.usage is not None:
            passed = self._usage(passed, chunk)
        if chunk.error:
            self.failed = True
        return self._note(passed)

    def _usage(self, line: bytes, chunk: Chunk) -> bytes:
        if not self._usage_wanted:
            return line if chunk.choices or chunk.error else b""
        reported = self._meter.reported
        members = self._cost(reported) if self._cost and chunk.final and reported is not None else None
        if members is None or not line:
            return line
        return rewritten(line, lambda body: with_usage_members(body, members)) or line

    def _note(self, passed: bytes) -> bytes:
        if passed:
            self._open = True
        else:
            self._dropped = True
        return passed

    def _end(self, blank: bytes) -> bytes:
        if not self._held and not self._dropped:
            self._open = False
            return blank
        held = self._release(ended=blank != b"\r") if self._held else b""
        # An event of which nothing was forwarded takes its blank line with it; a blank line by itself passes.
        hidden = self._dropped and not self._open
        self._open = self._dropped = False
        return b"" if hidden else held + blank if held else blank

    def _odd(self, line: bytes) -> bytes:
        """A data line that is not plainly a chunk: the end mark, forgiving JSON, or a piece of something larger."""
        body = payload(line) or b""
        if body.strip() == DONE:
            self.done = True
            return self._note(line)
        if not body.strip() and not line.endswith(b"\r"):
            return self._note(line)
        try:
            chunk = self._decode(body)
        except RecursionError:
            return self._note(b"")
        return self._hold(line) if chunk is None else self._chunk(line, chunk)

    def _other(self, line: bytes) -> bytes:
        """Comments, other fields, and lines that are no field at all."""
        if line.startswith(BOM) and payload(line) is not None:
            return self._odd(line)
        if any(needle in line for needle in _NEEDLES) and guarded_in(line):
            return self._note(b"")
        return self._note(line)

    def _hold(self, line: bytes) -> bytes:
        self._held.append(line)
        self._held_bytes += len(line)
        if self._held_bytes > self._limit:
            raise EventTooLarge(f"an event of the stream is longer than {self._limit} bytes")
        if len(self._held) > HELD_LINES_MAX:
            raise EventTooLarge(f"an event of the stream has more than {HELD_LINES_MAX} lines that are no JSON")
        return b""

    def _release(self, *, ended: bool) -> bytes:
        """Judge the held event. `ended` tells that its last LF-line is over; after a bare CR it may still grow."""
        held, self._held, self._held_bytes = self._held, [], 0
        try:
            return self._note(self._judged(held, ended))
        except RecursionError:
            return self._note(b"")

    def _judged(self, held: list[bytes], ended: bool) -> bytes:
        bodies = [body for body in map(payload, held) if body is not None]
        # A line break inside JSON is white space outside every string, so a space says the same on one line.
        joined = b"data: " + b" ".join(bodies) + b"\n"
        whole = self._decode(joined[6:])
        passed = joined if whole is None else self._chunk(joined, whole)
        raw = b"".join(held)
        safe = self._lines_alone(held, whole) and self._lines_at_lf(raw, ended)
        if passed is joined:
            return raw if safe else b""
        return passed

    def _lines_alone(self, held: list[bytes], whole: Chunk | None) -> bool:
        """Whether each held line by itself is safe; chunks that are no piece of a whole one are metered."""
        for line in held:
            body = payload(line)
            chunk = self._decode(body) if body is not None else None
            if chunk is not None and whole is None:
                self._meter.take(chunk)
            if (chunk is not None and chunk.guarded) or (chunk is None and guarded_in(line)):
                return False
        return True

    def _lines_at_lf(self, raw: bytes, ended: bool) -> bool:
        """Whether a reader that splits at LF alone sees nothing unsafe, now or in what may still follow a bare CR."""
        *lines, last = raw.split(b"\n")
        for line in [*lines, last]:
            if b"\r" in line.removesuffix(b"\r") and not self._lf_line_safe(line):
                return False
        return ended or not _may_grow(last)

    def _lf_line_safe(self, line: bytes) -> bool:
        text = line.decode("utf-8", "replace")
        chunk = self._decode_text(text[5:]) if text.startswith("data:") else None
        if chunk is not None:
            self._meter.take(chunk)
        return chunk is None or not chunk.guarded


def rewritten(line: bytes, change: Callable[[bytes], bytes | None]) -> bytes:
    """The data line with its JSON changed, its line end kept; empty when the JSON cannot be changed exactly."""
    body = payload(line) or b""
    changed = change(body)
    if changed is None:
        return b""
    end = line[len(line.rstrip(b"\r\n")) :]
    start = line.index(b":") + 1
    return line[:start] + b" " * line.startswith(b" ", start) + changed + end


def guarded_in(line: bytes) -> bool:
    """Whether any way of splitting this line that a forgiving reader may know shows an object with a guarded key."""
    text = line.decode("utf-8", "replace")
    return any(_guarded_text(piece) for piece in {text, *text.splitlines()})


def _guarded_text(text: str) -> bool:
    start = _PREFIXES.match(text)
    body = text[start.end() :] if start else text
    if not body.startswith("{"):
        return False
    try:
        chunk = decode_text(body)
    except RecursionError:
        return True
    return chunk is not None and chunk.guarded


def _may_grow(line: bytes) -> bool:
    """Whether a LF-line cut at a bare CR could still become one JSON object for a reader that splits at LF alone."""
    first, *rest = line.split(b"\r")
    if not first.startswith(_DATA):
        return False
    body = first[5:].decode("utf-8", "replace").strip()
    if body and not body.startswith("{"):
        return False
    return not any(piece.lstrip()[:1] and piece.lstrip()[:1] in _FIELD_STARTS for piece in rest)

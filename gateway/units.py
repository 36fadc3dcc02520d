"""Replies that are charged by the unit (characters, seconds, images) unless the backend reports tokens. Pure.

The units are known from the request, so there is always something to charge; a usable report takes their place. Units
and tokens of one call are never charged together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway import dialect
from gateway.chunk import Chunk
from gateway.filter import TERMINAL_BYTES_MAX, StreamFilter
from gateway.meter import Reading
from gateway.surface import Cost
from ledger.usage import KINDS, Usage, UsageSource

Report = tuple[Usage | None, tuple[str, ...]]
"""A usage object as read: None if it is not usable, and the names of what was odd about it."""
Read = Callable[[Mapping[str, Any]], Report]

never = re.compile(rb"(?!)")  # the `last` of a stream that no event ends


def tokens(raw: Mapping[str, Any]) -> Report:
    """A usage object in tokens, of any dialect. What says nothing of either half is no report."""
    counts, problems = dialect.read(raw)
    if not counts:
        return None, problems
    report = dialect.disjoint(counts, problems)
    return report.usage, report.problems


class UnitMeter:
    """What one call consumed: `known`, as well as `source` says, until the backend reports; then that.

    `parts` is how many separate results the call may report, each its own usage: those are added. Any further report
    repeats one, and per kind the larger holds. `begun`: of the answer, something that is worth `known` has come.
    """

    def __init__(
        self, known: Usage, source: UsageSource = UsageSource.COUNTED, read: Read = tokens, *, parts: int = 1
    ) -> None:
        self.begun = False
        self.known_variant = ""  # what sets the price of the known units
        self._known = known
        self._source = source
        self._read = read
        self._parts = parts
        self._reports: list[Usage] = []
        self._problems: tuple[str, ...] = ()

    @property
    def sure(self) -> bool:
        return True

    @property
    def reports(self) -> int:
        """How many usable reports have come."""
        return len(self._reports)

    @property
    def reported(self) -> Usage | None:
        if self._reports:
            return _sum(self._reports)
        return self._known if self.begun else None

    @property
    def variant(self) -> str:
        return "" if self._reports else self.known_variant

    def take(self, chunk: Chunk) -> None:
        """Read one event of a stream."""
        if chunk.usage is not None:
            self.report(chunk.usage)
        if not chunk.error:
            self.begun = True

    def report(self, raw: Mapping[str, Any]) -> None:
        """Take one usage object; what is unusable in it is named in the reading."""
        usage, problems = self._read(raw)
        self.problem(*problems)
        if usage is None:
            return
        if len(self._reports) < self._parts:
            self._reports.append(usage)
        else:
            self._reports[-1] = self._reports[-1].maximum(usage)

    def correct(self, known: Usage, source: UsageSource, variant: str = "") -> None:
        """The reply tells the units better than the request did."""
        self._known, self._source, self.known_variant = known, source, variant

    def problem(self, *names: str) -> None:
        """Mark what was odd in the reply."""
        self._problems = tuple(dict.fromkeys(self._problems + names))

    def estimate(self) -> int:
        return _sum(self._reports).output_tokens

    def text(self) -> str:
        return ""

    def anchor(self, text_tokens: int) -> None:
        """There is no text, so nothing to anchor."""

    def reading(self, input_tokens: int, text_tokens: int) -> Reading:
        if self._reports:
            return Reading(_sum(self._reports), UsageSource.REPORTED, self._problems)
        return Reading(self._known, self._source, self._problems)


class UnitTap:
    """The way of an event stream of one of these routes: the chat's filter, ended by an event and not by `[DONE]`.

    `last` finds the event that ends one result, `results` is how many are due. From the last one on everything waits in
    `terminal`; if it never comes, or carries no usage, the end of the stream is the end of the answer.
    """

    def __init__(
        self, meter: UnitMeter, cost: Cost, event_bytes_max: int, *, last: re.Pattern[bytes], results: int = 1
    ) -> None:
        self.meter = meter
        self.done = False
        self._kept = b""
        # mypy knows the filter's meter as the chat's; of it the filter uses only what this one has too.
        self._filter = StreamFilter(
            meter,  # type: ignore[arg-type]
            usage_wanted=True,
            cost=cost,
            event_bytes_max=event_bytes_max,
        )
        self._last = last
        self._due = results
        self._after = 0  # bytes that came after the last result: nothing is due there, and little is kept

    @property
    def failed(self) -> bool:
        return self._filter.failed

    @property
    def terminal(self) -> bytes:
        return self._kept + self._filter.terminal

    def feed(self, data: bytes) -> bytes:
        """Take what the backend sent, return what the caller gets now. Raises sse.EventTooLarge."""
        before = self.meter.reports
        passed = self._filter.feed(data)
        if self.done:
            return self._keep(passed)
        if self.meter.reports > before:
            # Looked for only beside a report: the events between are large, and some are nothing but base64.
            self._due -= len(self._last.findall(passed))
        if self._due > 0 and not self._filter.done:
            return passed
        self.done, self._kept = True, passed
        return b""

    def close(self) -> bytes:
        """The backend has ended: what still waited."""
        rest = self._filter.close()
        return self._keep(rest) if self.done else rest

    def _keep(self, more: bytes) -> bytes:
        self._after += len(more)
        if self._after <= TERMINAL_BYTES_MAX:
            self._kept += more
        return b""


def read_json(body: bytes, into: type[Any]) -> Any | None:
    """The reply as this Struct, None when it is something else: a backend's reply is never an error of ours."""
    try:
        return msgspec.json.decode(body, type=into)
    except (ValueError, RecursionError):
        return None


def _sum(usages: list[Usage]) -> Usage:
    return Usage(**{kind: sum(getattr(usage, kind) for usage in usages) for kind in KINDS})

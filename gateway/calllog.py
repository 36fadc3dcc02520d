"""One structured line a call, written by a thread of its own. Never a prompt, an answer or a secret.

Lines are gathered, and made and written a few times a second: a thread that is woken for each line costs a call more
than its line does, and many lines made one after the other cost less than each between two calls. What waits is
bounded: when nobody reads our output, lines are dropped and told of, calls are not delayed.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from gateway.ended import Ended

_log = logging.getLogger("farebox.gateway")
_QUEUE_MAX = 20_000
_PAUSE_S = 0.1
_AT_ONCE = 1000


class CallLog:
    """JSON lines on ``out`` (standard output when None). ``beside`` is what else is done with the calls of each round,
    in the same thread; ``dropped`` is told how many lines nobody took in time, from any thread."""

    def __init__(
        self,
        out: BinaryIO | None = None,
        beside: Callable[[], None] | None = None,
        dropped: Callable[[int], object] = lambda lines: None,
    ) -> None:
        self._out = out or sys.stdout.buffer
        self._beside = beside
        self._dropped = dropped
        self._lines: deque[Ended | dict[str, Any]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="farebox-calllog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def write(self, line: Ended | dict[str, Any]) -> None:
        """Hand a call over, or a line of its own, without waiting."""
        if len(self._lines) < _QUEUE_MAX:
            self._lines.append(line)
        else:
            self._dropped(1)

    def stop(self) -> None:
        """Write what waits and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_S):
            self._round()
        self._round()

    def _round(self) -> None:
        self._write()
        if self._beside is None:
            return
        try:
            self._beside()
        except Exception:
            _log.exception("calls not counted")

    def _write(self) -> None:
        encode = msgspec.json.Encoder().encode
        while self._lines:
            taken = [self._lines.popleft() for _ in range(min(len(self._lines), _AT_ONCE))]
            lines = [encode(each.line() if isinstance(each, Ended) else each) for each in taken]
            try:
                self._out.write(b"\n".join(lines) + b"\n")
                self._out.flush()
            except (OSError, ValueError):
                self._dropped(len(lines))

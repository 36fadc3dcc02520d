"""One structured line a call, written by a thread of its own. Never a prompt, an answer or a secret.

Lines are gathered and written a few times a second: a thread that is woken for each line costs a call more than its
line does. What waits is bounded: when nobody reads our output, lines are dropped and counted, calls are not delayed.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, BinaryIO

import msgspec

_QUEUE_MAX = 20_000
_PAUSE_S = 0.1
_AT_ONCE = 1000


class CallLog:
    """JSON lines on ``out`` (standard output when None). ``dropped`` counts lines nobody took in time."""

    def __init__(self, out: BinaryIO | None = None) -> None:
        self._out = out or sys.stdout.buffer
        self._lines: deque[dict[str, Any]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="farebox-calllog", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def write(self, line: dict[str, Any]) -> None:
        """Hand a line over without waiting."""
        if len(self._lines) < _QUEUE_MAX:
            self._lines.append(line)
        else:
            self.dropped += 1

    def stop(self) -> None:
        """Write what waits and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_S):
            self._write()
        self._write()

    def _write(self) -> None:
        encode = msgspec.json.Encoder().encode
        while self._lines:
            lines = [encode(self._lines.popleft()) for _ in range(min(len(self._lines), _AT_ONCE))]
            try:
                self._out.write(b"\n".join(lines) + b"\n")
                self._out.flush()
            except (OSError, ValueError):
                self.dropped += len(lines)

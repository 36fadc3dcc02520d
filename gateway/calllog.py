"""One structured line a call, written by a thread of its own. Never a prompt, an answer or a secret.

The queue is bounded: when nobody reads our output, lines are dropped and counted, calls are not delayed.
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any, BinaryIO

import msgspec

_QUEUE_MAX = 20_000


class CallLog:
    """JSON lines on ``out`` (standard output when None). ``dropped`` counts lines nobody took in time."""

    def __init__(self, out: BinaryIO | None = None) -> None:
        self._out = out or sys.stdout.buffer
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_QUEUE_MAX)
        self._thread = threading.Thread(target=self._write, name="farebox-calllog", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def write(self, line: dict[str, Any]) -> None:
        """Hand a line over without waiting."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def stop(self) -> None:
        """Write what waits and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout=5)

    def _write(self) -> None:
        encode = msgspec.json.Encoder().encode
        while (line := self._queue.get()) is not None:
            lines = [encode(line)]
            stop = False
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    stop = True
                    break
                lines.append(encode(more))
            try:
                self._out.write(b"\n".join(lines) + b"\n")
                self._out.flush()
            except (OSError, ValueError):
                self.dropped += len(lines)
            if stop:
                return

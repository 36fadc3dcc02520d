"""Lines of an event stream: bytes in, whole lines out.

Knows the three line ends of the event-stream format (LF, CRLF, CR), the optional byte order mark, and the shape of one
line. Knows nothing of JSON, usage or callers. Nothing is ever re-encoded: the lines joined are the bytes that came.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.5 and 9.2.6.
"""

from __future__ import annotations

BOM = b"\xef\xbb\xbf"
LINE_BYTES_MAX = 8 * 1024 * 1024  # one inline image fits; a backend that never ends its line does not
DONE = b"[DONE]"


class EventTooLarge(ValueError):
    """One line or one event is longer than its bound; the stream cannot be trusted any further."""


class LineReader:
    """Cuts a byte stream into lines, wherever the network cut it.

    A carriage return at the very end of what has arrived may be half of a CRLF, so it waits for the next byte or for
    `close`. An unfinished line is kept in parts and joined once: many tiny pieces cost no more than one large one.
    """

    __slots__ = ("_held", "_limit", "waits")

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._limit = line_bytes_max
        self.waits: list[bytes] = []  # the parts of an unfinished line
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """Take what arrived; return the whole lines, once joined and once apart, each with its line end.

        The joined form is `data` itself, not a copy, where nothing had waited and nothing has to wait.
        Raises EventTooLarge when one line, finished or not, is over the bound.
        """
        if not self.waits and data.endswith(b"\n"):
            lines = data.splitlines(True)
            self._check(data, lines)
            return data, lines
        if self.waits and b"\n" not in data and b"\r" not in data and not self.waits[-1].endswith(b"\r"):
            return self._wait(data)
        return self._cut(data)

    def close(self) -> bytes:
        """Return the last line, if the stream ended without a line end, else empty bytes."""
        rest = b"".join(self.waits)
        self.waits, self._held = [], 0
        return rest

    def _cut(self, data: bytes) -> tuple[bytes, list[bytes]]:
        block = b"".join((*self.waits, data))
        self.waits, self._held = [], 0
        lines = block.splitlines(True)
        if lines and not lines[-1].endswith(b"\n"):
            rest = lines.pop()
            self._wait(rest)
            block = block[: len(block) - len(rest)]
        self._check(block, lines)
        return block, lines

    def _wait(self, part: bytes) -> tuple[bytes, list[bytes]]:
        if part:
            self.waits.append(part)
            self._held += len(part)
        if self._held > self._limit:
            raise EventTooLarge(f"a line of the stream is longer than {self._limit} bytes")
        return b"", []

    def _check(self, block: bytes, lines: list[bytes]) -> None:
        # A block within the bound holds no line over it: the usual block is small, and its lines are not measured.
        if len(block) > self._limit and max(map(len, lines)) > self._limit:
            raise EventTooLarge(f"a line of the stream is longer than {self._limit} bytes")


def payload(line: bytes) -> bytes | None:
    """Return what a `data` line carries, its line end removed, or None for any other kind of line.

    One space after the colon belongs to the frame, not to the value. A byte order mark before the name is skipped.
    """
    name, colon, value = line.removeprefix(BOM).rstrip(b"\r\n").partition(b":")
    if name != b"data":
        return None
    return value.removeprefix(b" ") if colon else b""

"""The backend's record, read: what it was asked, what it sent when, what it reported, how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Sent:
    """One call of the backend. ``pieces``: when so many tokens in all had been handed to the socket."""

    call: int
    at: float
    nonce: str
    request_id: str
    streamed: bool
    pieces: list[tuple[float, int]] = field(default_factory=list)
    reported: tuple[int, int] | None = None
    how: str = ""
    ended_at: float = 0.0
    tokens: int = 0

    def sent_by(self, instant: float) -> int:
        """Tokens handed to the socket until then."""
        return max((tokens for at, tokens in self.pieces if at <= instant), default=0)

    def when(self, tokens: int) -> float:
        """When more than so many tokens had been sent; the call's end if that never happened."""
        return next((at for at, sent in self.pieces if sent > tokens), self.ended_at or self.at)


def read_record(path: Path) -> Iterator[Sent]:
    """Each call in the order in which they came."""
    calls: dict[str, Sent] = {}
    for line in path.read_text().splitlines():
        kind, call, *rest = line.split(" ")
        if kind == "B":
            calls[call] = Sent(int(call), float(rest[0]), rest[1], rest[2], rest[3] == "1")
            continue
        sent = calls[call]
        match kind:
            case "S":
                sent.pieces.append((float(rest[0]), int(rest[1])))
                sent.tokens = int(rest[1])
            case "U":
                sent.reported = int(rest[0]), int(rest[1])
            case "E":
                sent.ended_at, sent.how, sent.tokens = float(rest[0]), rest[1], int(rest[2])
    yield from calls.values()

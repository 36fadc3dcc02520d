"""What happened in a run, in the order in which it happened: for the hash that proves a replay, and for people."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from simulation.loop import ACTOR, VirtualLoop


class Trace:
    """Events of one run. Details are values that print the same in every process."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._events: list[tuple[float, str, str, tuple[Any, ...]]] = []

    def tell(self, what: str, *details: Any) -> None:
        """Something happened, to whoever is running."""
        self._events.append((self._loop.now, ACTOR.get().name, what, details))

    def __len__(self) -> int:
        return len(self._events)

    @property
    def hash(self) -> str:
        """Equal for two runs exactly if the same things happened at the same instants."""
        digest = sha256()
        for line in self.lines():
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()

    def lines(self) -> Iterator[str]:
        """One event a line: virtual seconds, who, what."""
        for at, actor, what, details in self._events:
            yield f"{at:10.4f}  {actor:12} {what}  {' '.join(map(str, details))}".rstrip()

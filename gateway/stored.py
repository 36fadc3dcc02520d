"""A body wherever it lies: in memory as plain ``bytes``, or on disk behind the same slices. Pure.

Slices of a body on disk may wait for the disk: they are for threads. The event loop uses ``read``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

WINDOW_BYTES = 256 * 1024  # what a search looks at in one step


class Source(Protocol):
    """As many bytes as its length says, to be read piece by piece."""

    def __len__(self) -> int: ...

    async def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to before ``end``. Raises OSError, ValueError once it is closed."""
        ...


class Stored(Source, Protocol):
    """The same, also by slices, which may block."""

    def __getitem__(self, part: slice, /) -> bytes: ...


Body = bytes | Stored
Run = tuple[Body, int, int]
"""A stretch of a body: from where, and to before where."""


class Rope:
    """Stretches of bodies, one behind another as one body. Nothing is copied until it is read."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._size = sum(end - start for _, start, end in runs)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, end, _ = part.indices(self._size)
        return b"".join([body[first:last] for body, first, last in self._within(start, end)])

    async def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to before ``end``."""
        runs = self._within(start, end)
        return b"".join([body[a:b] if isinstance(body, bytes) else await body.read(a, b) for body, a, b in runs])

    def _within(self, start: int, end: int) -> Iterator[Run]:
        for body, first, last in self._runs:
            size = last - first
            if max(0, start) < min(size, end):
                yield body, first + max(0, start), first + min(size, end)
            start, end = start - size, end - size


def find(body: Body, needle: bytes, start: int) -> int:
    """Where the needle first stands from ``start`` on; -1 where it does not."""
    for at in range(start, len(body), WINDOW_BYTES):
        # Windows overlap, so that a needle across their border is found in the first.
        found = body[at : at + WINDOW_BYTES + len(needle) - 1].find(needle)
        if found >= 0:
            return at + found
    return -1

"""How long anybody waited: what each statement took, by what was going on at its end; and who waits for a lock now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg

from config.watch import driver_options
from tests.migrations.bookings import NAME

_SAMPLE_S = 0.05

_COLUMNS = {"took s": 10, "statements": 12, "median ms": 12, "p99 ms": 10, "longest ms": 12, "lock ms": 10}

_WAITING = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float8
    FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.application_name = $1
"""


class Waits:
    """``label`` is what is going on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._label = ""
        self._told: dict[str, list[float]] = {}
        self._locks: dict[str, float] = {}
        self._took: dict[str, float] = {}

    @property
    def label(self) -> str:
        return self._label

    @label.setter
    def label(self, label: str) -> None:
        self._label = label
        self._told.setdefault(label, [])
        self._locks.setdefault(label, 0.0)

    def tell(self, what: str, seconds: float) -> None:
        self._told.setdefault(self._label, []).append(seconds)

    def took(self, seconds: float) -> None:
        """So long took what is going on."""
        self._took[self._label] = seconds

    @property
    def longest(self) -> float:
        """The longest statement or wait."""
        return max([*self._locks.values(), *(max(each, default=0.0) for each in self._told.values())], default=0.0)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """The waits of the load are sampled until the block ends."""
        connection = await asyncpg.connect(**driver_options(self._url))
        task = asyncio.create_task(self._watch(connection))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            connection.terminate()

    async def _watch(self, connection: asyncpg.Connection) -> None:
        while True:
            waited = await connection.fetchval(_WAITING, NAME)
            self._locks[self._label] = max(self._locks.get(self._label, 0.0), waited)
            await asyncio.sleep(_SAMPLE_S)

    def table(self) -> Iterator[str]:
        """A line for each thing that went on."""
        yield f"{'':18}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())
        for label, told in self._told.items():
            if told:
                told = sorted(told)
                numbers = (told[len(told) // 2], told[len(told) * 99 // 100], told[-1], self._locks.get(label, 0.0))
                shown = "".join(
                    f"{1000 * each:{width}.1f}" for each, width in zip(numbers, (12, 10, 12, 10), strict=True)
                )
                yield f"{label:18}{self._took.get(label, 0.0):10.1f}{len(told):12}{shown}"

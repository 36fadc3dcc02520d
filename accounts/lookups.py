"""Look-ups that share a trip: callers who ask while a query is under way go together with the next one.

A flood of made-up keys costs one query at a time and a bounded queue, however many callers send it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TooManyLookups(Exception):
    """More callers are waiting than the queue may hold."""


class Lookups(Generic[K, V]):
    """Answers by name, ``batch`` names a query at most, ``waiting_max`` callers at most."""

    def __init__(
        self, find: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], *, batch: int = 256, waiting_max: int = 4096
    ) -> None:
        self._find = find
        self._batch = batch
        self._waiting_max = waiting_max
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    async def find(self, name: K) -> V | None:
        """The answer, or None where there is none. Raises TooManyLookups, or what the query raised."""
        if self._count >= self._waiting_max:
            raise TooManyLookups(f"{self._count} look-ups are waiting")
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, []).append(answer)
        self._count += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="lookups")
        try:
            return await answer
        finally:
            self._count -= 1

    async def aclose(self) -> None:
        """Wait for the query under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        while self._waiting:
            names = list(self._waiting)[: self._batch]
            askers = {name: self._waiting.pop(name) for name in names}
            try:
                found = await self._find(names)
            except Exception as error:  # every asker must hear of it; none is left waiting for ever
                _answer(askers, error)
            else:
                _answer(askers, found)


def _answer(askers: Mapping[K, Sequence[asyncio.Future[V | None]]], found: Mapping[K, V] | Exception) -> None:
    for name, futures in askers.items():
        for future in futures:
            if future.done():  # the caller has left
                continue
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found.get(name))

"""Concurrent requests that share one trip: the next batch leaves when the last one came back.

Nothing waits for a timer: alone, a request leaves at once; under load the trip time itself gathers the batch. What a
caller's cancellation takes away is its wait and, while it has not left, its request; never the request of a neighbour.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Full(Exception):
    """More requests wait than the bound allows."""


class Batcher(Generic[Q, A]):
    """``run`` answers a batch of at most ``size`` requests, one answer each, in order; at most ``waiting`` may wait.

    When ``run`` raises, every request of that batch gets the exception; an answer that is an exception is raised to its
    own request alone. ``unclaimed`` is told the answers whose callers were cancelled while they waited.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        *,
        size: int,
        waiting: int,
        unclaimed: Callable[[Q, A], None] | None = None,
    ) -> None:
        self._run = run
        self._size = size
        self._waiting = waiting
        self._unclaimed = unclaimed
        self._queue: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, request: Q) -> A:
        """The answer to one request. Raises Full, or what ``run`` raised."""
        if len(self._queue) >= self._waiting:
            raise Full(f"{self._waiting} requests wait already")
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.append((request, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await future
        except asyncio.CancelledError:
            # Cancelled between the answer's coming and this task's waking: the answer is nobody's, too.
            if self._unclaimed is not None and not future.cancelled() and future.exception() is None:
                self._unclaimed(request, future.result())
            raise

    async def _work(self) -> None:
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(self._size, len(self._queue)))]
                await self._serve([asked for asked in batch if not asked[1].done()])
        finally:
            self._worker = None

    async def _serve(self, batch: list[tuple[Q, asyncio.Future[A]]]) -> None:
        if not batch:
            return
        try:
            answers = await self._run([request for request, _ in batch])
        except Exception as failure:
            answers = [failure] * len(batch)
        for (request, future), answer in zip(batch, answers, strict=True):
            if future.done() or isinstance(answer, Exception):
                self._answer(request, future, answer)
            else:
                future.set_result(answer)

    def _answer(self, request: Q, future: asyncio.Future[A], answer: A | Exception) -> None:
        """What is no answer, or comes too late for its caller."""
        if isinstance(answer, Exception):
            if not future.done():
                future.set_exception(answer)
        elif self._unclaimed is not None:
            self._unclaimed(request, answer)

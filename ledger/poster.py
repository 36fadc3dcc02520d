"""Posts settlements: handed over without waiting, committed in batches, never forgotten.

The event is handed over before a caller sees the end of its answer. While the bank is away, events wait in memory and,
for the case that this process dies too, on disk. An event the bank refuses for itself is set apart and reported: it must
not keep the others from being posted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from ledger.hold import Settlement
from ledger.spool import Spool
from ledger.store import Bank, BankUnavailable

_log = logging.getLogger("farebox.ledger")
_PAUSE_S = 0.2
_PAUSE_MAX_S = 3.0


class Poster:
    """One for each process. ``refused`` counts events that could not be posted at all; each is in the log, whole."""

    def __init__(self, bank: Bank, spool: Spool, *, batch: int = 200) -> None:
        self._bank = bank
        self._spool = spool
        self._batch = batch
        self._queue: deque[tuple[float, Settlement]] = deque()
        self._spooled = 0  # how many at the head of the queue are on disk already
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.refused = 0

    def start(self) -> None:
        """Begin to post, first of all what dead processes left."""
        self._task = asyncio.create_task(self._run())

    def submit(self, event: Settlement) -> None:
        """Hand an event over; from here on it is the poster's."""
        self._queue.append((time.monotonic(), event))
        self._idle.clear()
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Events handed over and not yet committed."""
        return len(self._queue)

    @property
    def lag_s(self) -> float:
        """How long the oldest of them has waited."""
        return time.monotonic() - self._queue[0][0] if self._queue else 0.0

    @property
    def spooled(self) -> int:
        """How many of them are on disk because the bank is away."""
        return self._spool.records

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything is committed; False if the time was too short (then what is left is on disk)."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            await self._keep()
            return False
        return True

    async def stop(self) -> None:
        """End the task; whatever is not committed is on disk afterwards."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._queue:
            await self._keep()
        self._spool.close()

    async def _run(self) -> None:
        await self._take_over()
        pause = _PAUSE_S
        while True:
            await self._wake.wait()
            batch = [event for _, event in list(self._queue)[: self._batch]]
            if await self._post(batch):
                pause = _PAUSE_S
                await self._done(len(batch))
            else:
                await self._keep()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MAX_S)

    async def _post(self, batch: Sequence[Settlement]) -> bool:
        """True when nothing of the batch is left to do; False while the bank is away."""
        try:
            unknown = await self._bank.close(batch)
        except BankUnavailable as away:
            _log.warning("settlements wait", extra={"events": len(self._queue), "reason": str(away)})
            return False
        except Exception:
            if len(batch) == 1:
                self._set_apart(batch[0])
                return True
            # One of them is refused for itself: find it by posting each alone.
            return all([await self._post([event]) for event in batch])
        for event in unknown:
            self._set_apart(event)
        return True

    async def _done(self, count: int) -> None:
        for _ in range(count):
            self._queue.popleft()
        self._spooled = max(0, self._spooled - count)
        if not self._queue:
            self._wake.clear()
            if self._spool.records:
                await asyncio.to_thread(self._spool.clear)
            if not self._queue:
                self._idle.set()

    async def _keep(self) -> None:
        """Put on disk what is not there yet. A full disk is reported; the events stay in memory."""
        fresh = [event for _, event in list(self._queue)[self._spooled :]]
        if not fresh:
            return
        try:
            await asyncio.to_thread(self._spool.append, fresh)
            self._spooled += len(fresh)
        except OSError as failure:
            _log.error("settlements not spooled", extra={"events": len(fresh), "reason": str(failure)})

    async def _take_over(self) -> None:
        """Post what dead processes left; while the bank is away, keep trying."""
        for orphan, events in await asyncio.to_thread(lambda: list(self._spool.orphans())):
            _log.info("spool taken over", extra={"events": len(events)})
            for start in range(0, len(events), self._batch):
                while not await self._post(events[start : start + self._batch]):
                    await asyncio.sleep(_PAUSE_MAX_S)
            await asyncio.to_thread(orphan.remove)

    def _set_apart(self, event: Settlement) -> None:
        self.refused += 1
        _log.error("settlement refused", exc_info=True, extra={"settlement": event})

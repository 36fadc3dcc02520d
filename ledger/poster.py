"""Posts settlements: handed over without waiting, committed in batches, never forgotten.

The event is handed over before a caller sees the end of its answer. While the bank is away, events wait in memory and,
for the case that this process dies too, on disk. One whose wallet somebody else has locked goes to the end of the line.
One that the bank refuses for itself is set apart, on disk, and reported: it must not keep the others from being posted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID

from ledger.hold import Settlement
from ledger.spool import Orphan, Spool
from ledger.store import Bank, BankUnavailable
from ledger.turns import Turns

_log = logging.getLogger("farebox.ledger")
_GATHER_S = 0.05
_PARTS = 3  # of a batch, each with a commit of its own
_PART_LEAST = 32
_PAUSE_S = 0.01
_PAUSE_MAX_S = 3.0


class Poster:
    """One for each process. ``refused`` counts events that could not be posted at all; each is kept in the spool
    folder. ``turns`` is told which wallets a batch has locked."""

    def __init__(self, bank: Bank, spool: Spool, *, batch: int = 200, turns: Turns | None = None) -> None:
        self._bank = bank
        self._spool = spool
        self._batch = batch
        self._turns = turns or Turns()
        self._queue: deque[tuple[float, Settlement]] = deque()
        self._on_disk: set[UUID] = set()
        self._disk = asyncio.Lock()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        self.refused = 0

    def start(self) -> None:
        """Begin to post; beside it, post what dead processes left."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._take_over())]

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
        return time.monotonic() - min(since for since, _ in self._queue) if self._queue else 0.0

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
        """End the work; whatever is not committed is on disk afterwards."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keep()
        await asyncio.to_thread(self._spool.close)

    async def _run(self) -> None:
        pause, begun = _PAUSE_S, 0.0
        while True:
            await self._wake.wait()
            # A commit costs the same for one as for fifty: alone, an event is posted at once, the next ones gather.
            if len(self._queue) < self._batch:
                await asyncio.sleep(max(0.0, begun + _GATHER_S - time.monotonic()))
            begun = time.monotonic()
            batch = [event for _, event in islice(self._queue, self._batch)]
            left = await self._posted(batch)
            await self._done(len(batch), left)
            if len(left) < len(batch):
                pause = _PAUSE_S
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MAX_S)

    async def _posted(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        """What is left to do of the batch, which goes part by part: all that is not posted while the bank is away, else
        what is locked just now."""
        left: list[Settlement] = []
        parts = deque(_parts(batch))
        try:
            while parts:
                left += await self._post(parts)
                parts.popleft()
        except BankUnavailable as away:
            _log.warning("settlements wait", extra={"events": len(self._queue), "reason": str(away)})
            await self._keep()
            left += [event for part in parts for event in part]
        return left

    async def _post(self, parts: deque[Sequence[Settlement]]) -> Sequence[Settlement]:
        """What is locked just now of the first part. One the bank refuses goes behind the others, each event alone.
        Raises BankUnavailable."""
        part = parts[0]
        try:
            with self._turns.having(event.wallet_id for event in part):
                unposted = await self._bank.close(part)
        except BankUnavailable:
            raise
        except Exception as failure:
            if len(part) > 1:
                # One of them is refused for itself: find it by posting each alone.
                parts.extend([each] for each in part)
            else:
                await self._set_apart(part[0], repr(failure))
            return ()
        for event in unposted.unknown:
            await self._set_apart(event, "its hold is unknown")
        return unposted.busy

    async def _done(self, count: int, left: Sequence[Settlement]) -> None:
        waiting = {event.request_id for event in left}
        taken = [self._queue.popleft() for _ in range(count)]
        self._queue.extend(entry for entry in taken if entry[1].request_id in waiting)
        if not self._queue:
            self._wake.clear()
            await self._forget()
            if not self._queue:
                self._idle.set()

    async def _keep(self) -> None:
        """Put on disk what is not there yet. A full disk is reported; the events stay in memory."""
        async with self._disk:
            fresh = [event for _, event in self._queue if event.request_id not in self._on_disk]
            if not fresh:
                return
            try:
                await asyncio.to_thread(self._spool.append, fresh)
                self._on_disk.update(event.request_id for event in fresh)
            except OSError as failure:
                _log.error("settlements not spooled", extra={"events": len(fresh), "reason": str(failure)})

    async def _forget(self) -> None:
        """Everything is posted, so nothing needs to be on disk. Where the disk fails, replaying it does no harm."""
        async with self._disk:
            if self._queue or not self._spool.records:
                return
            try:
                await asyncio.to_thread(self._spool.clear)
                self._on_disk.clear()
            except OSError as failure:
                _log.error("spool not cleared", extra={"reason": str(failure)})

    async def _take_over(self) -> None:
        """Post what dead processes left; while the bank is away, keep trying."""
        try:
            orphans = await asyncio.to_thread(lambda: list(self._spool.orphans()))
        except OSError as failure:
            _log.error("spool not taken over", extra={"reason": str(failure)})
            return
        try:
            while orphans:
                await self._replay(*orphans[-1])
                await asyncio.to_thread(orphans.pop()[0].remove)
        finally:
            for orphan, _ in orphans:
                orphan.leave()

    async def _replay(self, orphan: Orphan, events: Sequence[Settlement]) -> None:
        _log.info("spool taken over", extra={"events": len(events)})
        for start in range(0, len(events), self._batch):
            left = await self._posted(events[start : start + self._batch])
            while left:
                await asyncio.sleep(_PAUSE_MAX_S)
                left = await self._posted(left)

    async def _set_apart(self, event: Settlement, reason: str) -> None:
        self.refused += 1
        _log.error("settlement refused", extra={"settlement": event, "reason": reason})
        try:
            await asyncio.to_thread(self._spool.set_apart, event)
        except OSError as failure:
            _log.error("settlement not kept", extra={"settlement": event, "reason": str(failure)})


def _parts(batch: Sequence[Settlement]) -> Iterator[Sequence[Settlement]]:
    """A large batch in parts by wallet: while one is posted, calls on the wallets of the others are held. What there is
    of a wallet is in one part, in its order."""
    count = min(_PARTS, 1 + len(batch) // _PART_LEAST)
    parts: list[list[Settlement]] = [[] for _ in range(count)]
    for event in batch:
        parts[event.wallet_id.int % count].append(event)
    return filter(None, parts)

"""The clockwork behind all running calls of this process: deadlines, beats to the bank, slots in Redis.

One task looks at every call a few times a second, so no call needs a timer of its own and no chunk resets one. Beats
and slots have their own tasks: a bank or a Redis that is slow to answer must not put off the deadlines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.phase import Phase, Stop
from ledger.store import Bank, BankUnavailable, Beat
from policies.buckets import Buckets, BucketsBusy, BucketsUnavailable

if TYPE_CHECKING:
    from gateway.pump import Pump

_log = logging.getLogger("farebox.gateway")
_TICK_S = 0.25
_RENEW_S = 5.0
_BEATS_AT_ONCE = 500


class Pulse:
    """``pumps`` are the running calls."""

    def __init__(
        self, bank: Bank, buckets: Buckets, *, beat_s: float, send_timeout_s: float, drain_stream_s: float
    ) -> None:
        self._bank = bank
        self._buckets = buckets
        self._beat_s = beat_s
        self._send_timeout_s = send_timeout_s
        self._drain_stream_s = drain_stream_s
        self.pumps: set[Pump] = set()
        self._early: set[Pump] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._beaten = time.monotonic()

    @property
    def deaf(self) -> int:
        """How many of the calls are read to their end though nobody listens."""
        return sum(1 for pump in self.pumps if pump.deaf_since)

    def start(self) -> None:
        rounds = (self._watch, _TICK_S), (self._beats, 0.0), (self._renew, _RENEW_S)
        self._tasks = [asyncio.create_task(self._every(pause, step), name="pulse") for step, pause in rounds]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def beat_soon(self, pump: Pump) -> None:
        """This call has used much since its last beat: do not wait for the next round."""
        self._early.add(pump)
        self._wake.set()

    async def _every(self, pause_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                await step()
            except Exception:
                _log.exception("pulse round failed")

    async def _watch(self) -> None:
        now = time.monotonic()
        for pump in tuple(self.pumps):
            why = self._overdue(pump, now)
            if why is not None:
                pump.stop(why)

    async def _beats(self) -> None:
        """The calls that cannot wait, when there are some; all of them, when their time has come."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(0.0, self._beaten + self._beat_s - time.monotonic()))
        self._wake.clear()
        now = time.monotonic()
        if now - self._beaten >= self._beat_s:
            self._beaten = now
            await self._beat(tuple(self.pumps))
        elif self._early:
            await self._beat(tuple(self._early))

    async def _beat(self, pumps: tuple[Pump, ...]) -> None:
        self._early.clear()
        told = [(pump, beat) for pump in pumps if (beat := pump.beat()) is not None]
        for start in range(0, len(told), _BEATS_AT_ONCE):
            await self._beat_batch(told[start : start + _BEATS_AT_ONCE])

    async def _beat_batch(self, told: list[tuple[Pump, Beat]]) -> None:
        try:
            replies = await self._bank.beat([beat for _, beat in told])
        except BankUnavailable as away:
            # The calls go on: what they hold covers them for a while, and what they cost is settled in the end.
            _log.warning("beats not recorded", extra={"calls": len(told), "reason": str(away)})
            return
        for (pump, _), reply in zip(told, replies, strict=True):
            pump.beaten(reply)

    async def _renew(self) -> None:
        tickets = [pump.admission.ticket for pump in self.pumps if pump.admission is not None]
        if not tickets:
            return
        try:
            await self._buckets.renew(tickets)
        except (BucketsUnavailable, BucketsBusy) as away:
            _log.warning("slots not renewed", extra={"calls": len(tickets), "reason": str(away)})

    def _overdue(self, pump: Pump, now: float) -> Stop | None:
        """Why this call must end now, if it must."""
        clock, patience = pump.story.clock, pump.story.patience
        if pump.deaf_since and now - pump.deaf_since > self._drain_stream_s:
            return Stop.CALLER_LEFT
        match pump.story.phase:
            case Phase.OPENING if clock.sent and now - clock.moved > patience.first_byte:
                return Stop.FIRST_BYTE
            case Phase.STREAMING if now - clock.moved > patience.idle:
                return Stop.IDLE
            case Phase.SENDING if now - clock.moved > self._send_timeout_s:
                return Stop.SLOW_CALLER
            case Phase.OPENING | Phase.STREAMING | Phase.SENDING if now - clock.begun > patience.total:
                return Stop.TOTAL
        return None

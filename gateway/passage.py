"""The way of a stream's pieces through its call, in the step in which each comes from the backend's socket: to the tap,
past the money, to the caller's socket. What would have to wait is left to the call's task. Does not wait itself."""

from __future__ import annotations

import time
from typing import Protocol

from gateway.downstream import Write
from gateway.payment import Payment
from gateway.story import Clock
from gateway.surface import Tap


class Call(Protocol):
    """What a passage asks of its call."""

    def beat_soon(self) -> None:
        """Much has passed since the last beat."""
        ...


class Passage:
    """``beat_tokens`` are as many as may pass between two beats. ``write`` is the way to the caller's socket: False
    where it does not take a piece at once; None while there is none, or nobody hears."""

    __slots__ = ("_beat_tokens", "_call", "_clock", "_meter", "_payment", "_rest", "tap", "write")

    def __init__(
        self, tap: Tap, payment: Payment, clock: Clock, call: Call, beat_tokens: int, write: Write | None
    ) -> None:
        self.tap = tap
        self.write = write
        self._meter = tap.meter
        self._payment = payment
        self._clock = clock
        self._call = call
        self._beat_tokens = beat_tokens
        self._rest = b""

    def take(self, data: bytes) -> bool:
        """A piece from the backend. False: the task has to go on, with what the hold does not cover, what the caller
        does not take at once, or the answer's end. Raises EventTooLarge."""
        clock, tap, payment = self._clock, self.tap, self._payment
        clock.moved = time.monotonic()
        passed = tap.feed(data)
        tokens = self._meter.estimate()
        if tokens > payment.covered:
            payment.beyond, self._rest = True, passed
            return False
        self.covered(tokens)
        if passed:
            if self.write is None or not self.write(passed):
                self._rest = passed
                return False
            if not clock.first:
                clock.first = clock.moved
        return not tap.done

    def covered(self, tokens: int) -> None:
        """The answer so far comes to so many tokens, all of which may go to the caller."""
        if tokens - self._payment.beaten_at >= self._beat_tokens:
            self._call.beat_soon()
        self._payment.passed = tokens

    def rest(self) -> bytes:
        """What may go to the caller and has not gone."""
        rest, self._rest = self._rest, b""
        return rest

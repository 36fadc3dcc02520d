"""Limits where a call may wait for its turn: a bounded moment, behind the user's earlier ones, and nobody else's.

An upload sends a hundred embeddings at once and repeats none that was refused. So a call that says how long it would
wait (`Ask.wait_ms`) stands in line where there is one, or where a slot or a window of requests keeps it out for less.
Only the first of a line asks again: when a slot of its user is given back in this process, else a few times a second,
because other replicas give slots back, too. Waiting counts and holds nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from policies.buckets import Ask, Buckets, Failed, Look, Reading, Ticket, unheard
from policies.decision import Deny
from policies.tier import Window

_LOOK_MS = 100
"""How often the first of a line looks whether another replica has given a slot back."""

_Line = tuple[str, str, str]


class _Waiter:
    """One call in line. `turn` is what it sleeps on; `left`: nobody is there any more."""

    __slots__ = ("left", "request_id", "turn")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.turn: asyncio.Future[None] | None = None
        self.left = False

    def wake(self) -> None:
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(None)

    def leave(self) -> None:
        self.left = True
        if self.turn is not None:
            self.turn.cancel()

    async def sleep(self, ms: float) -> None:
        """Until woken, or for so long. Raises CancelledError where the caller has left."""
        loop = asyncio.get_running_loop()
        self.turn = loop.create_future()
        timer = loop.call_later(ms / 1000, self.wake)
        try:
            await self.turn
        finally:
            timer.cancel()
            self.turn = None


class BucketsQueue:
    """`Buckets` with lines before them. At most `waiting_max` calls wait, and `line_max` of one user in one lane; what
    comes beyond is answered at once."""

    def __init__(self, buckets: Buckets, *, waiting_max: int = 1000, line_max: int = 256) -> None:
        self._buckets = buckets
        self._waiting_max = waiting_max
        self._line_max = line_max
        self._lines: dict[_Line, deque[_Waiter]] = {}
        self._waiters: dict[str, _Waiter] = {}
        self._closed = False

    @property
    def waiting(self) -> int:
        """Calls in line."""
        return len(self._waiters)

    def admit(self, ask: Ask) -> Coroutine[Any, Any, Ticket | Deny]:
        return self._admit(ask) if ask.wait_ms > 0 else self._buckets.admit(ask)

    def leave(self, request_id: str) -> None:
        waiter = self._waiters.get(request_id)
        if waiter is not None:
            waiter.leave()

    def close(self) -> None:
        """Nobody waits from now on: those in line are asked for once more, and answered."""
        self._closed = True
        for waiter in self._waiters.values():
            waiter.wake()

    async def correct(self, ticket: Ticket, actual: Sequence[int], *, forget: bool = False) -> None:
        await self._buckets.correct(ticket, actual, forget=forget)
        self._wake(_line_of(ticket.ask))

    def end(self, ticket: Ticket, actual: Sequence[int], failed: Failed = unheard, *, forget: bool = False) -> None:
        self._buckets.end(ticket, actual, failed, forget=forget)
        if self._lines:
            # The end has begun, and who is woken asks after it.
            self._wake(_line_of(ticket.ask))

    async def undo(self, ticket: Ticket) -> None:
        await self._buckets.undo(ticket)
        self._wake(_line_of(ticket.ask))

    async def renew(self, tickets: Iterable[Ticket]) -> None:
        await self._buckets.renew(tickets)

    async def read(self, wallet: str, user: str, windows: Sequence[Window]) -> Reading:
        return await self._buckets.read(wallet, user, windows)

    async def peek(self, ask: Ask) -> Look:
        return await self._buckets.peek(ask)

    async def clear(self, wallet: str, user: str, windows: Sequence[Window]) -> None:
        await self._buckets.clear(wallet, user, windows)
        for line in [line for line in self._lines if line[:2] == (wallet, user)]:
            self._wake(line)

    async def ping(self) -> None:
        await self._buckets.ping()

    async def aclose(self) -> None:
        self.close()
        await self._buckets.aclose()

    async def _admit(self, ask: Ask) -> Ticket | Deny:
        """The answer for a call that would wait for its turn."""
        line, answer = _line_of(ask), None
        if line not in self._lines:
            answer = await self._buckets.admit(ask)
            if not _is_worth_waiting(answer, ask.wait_ms):
                return answer
        if self._has_room(line):
            return await self._in_line(ask, line)
        return answer or await self._buckets.admit(ask)

    async def _in_line(self, ask: Ask, line: _Line) -> Ticket | Deny:
        waiter = _Waiter(ask.request_id)
        self._lines.setdefault(line, deque()).append(waiter)
        self._waiters[ask.request_id] = waiter
        try:
            return await self._turn(ask, line, waiter)
        finally:
            self._step_out(line, waiter)

    async def _turn(self, ask: Ask, line: _Line, waiter: _Waiter) -> Ticket | Deny:
        """The answer when it is this call's turn, or when its time is up."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + ask.wait_ms / 1000
        while True:
            left_ms = (deadline - clock()) * 1000
            over = left_ms <= 0 or self._closed
            if not over and self._lines[line][0] is not waiter:
                await waiter.sleep(left_ms)
                continue
            answer = await self._asked(ask, waiter)
            left_ms = (deadline - clock()) * 1000
            if over or not _is_worth_waiting(answer, left_ms):
                return answer
            await waiter.sleep(min(left_ms, _pause_ms(answer)))

    async def _asked(self, ask: Ask, waiter: _Waiter) -> Ticket | Deny:
        """Raises CancelledError where the caller has left meanwhile; what was counted is then taken back."""
        answer = await self._buckets.admit(ask)
        if not waiter.left:
            return answer
        if isinstance(answer, Ticket):
            await self._buckets.undo(answer)
        raise asyncio.CancelledError

    def _has_room(self, line: _Line) -> bool:
        full = len(self._waiters) >= self._waiting_max or len(self._lines.get(line, ())) >= self._line_max
        return not (full or self._closed)

    def _step_out(self, line: _Line, waiter: _Waiter) -> None:
        del self._waiters[waiter.request_id]
        waiters = self._lines[line]
        waiters.remove(waiter)
        if waiters:
            waiters[0].wake()
        else:
            del self._lines[line]

    def _wake(self, line: _Line) -> None:
        if line in self._lines:
            self._lines[line][0].wake()


def _line_of(ask: Ask) -> _Line:
    return ask.wallet, ask.user, ask.lane


def _is_worth_waiting(answer: Ticket | Deny | None, wait_ms: float) -> bool:
    """Whether the call may pass within this time: a slot may be given back at any moment."""
    if not isinstance(answer, Deny) or wait_ms <= 0:
        return False
    if answer.code == "too_many_concurrent":
        return True
    return answer.code == "rate_limit_requests" and 0 < answer.retry_after_ms <= wait_ms


def _pause_ms(answer: Ticket | Deny) -> float:
    """A window says when it has room; a slot may be given back by anybody."""
    if isinstance(answer, Deny) and answer.code == "rate_limit_requests":
        return answer.retry_after_ms
    return _LOOK_MS

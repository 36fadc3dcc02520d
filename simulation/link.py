"""The wire between a replica and what all replicas share: the bank, and Redis.

What is asked travels for a drawn time, is done in one instant in the world, and its answer travels back. On the way the
question can be lost (nothing is done) or the answer (it is done, and nobody is told), the other end can be away, and a
slow one may do after its caller gave up what the caller believes undone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from ledger.store import BankUnavailable
from policies.buckets import Ask, Buckets, BucketsUnavailable, Failed, Look, Reading, Ticket, unheard
from policies.decision import Deny
from policies.tier import Window
from simulation.bank import MemoryBank
from simulation.loop import ACTOR, Actor, VirtualLoop
from simulation.trace import Trace

T = TypeVar("T")
_QUICK_S = (0.0004, 0.003)


class Weather:
    """How the wires of one kind are just now; every replica's wire looks at the same. ``lost``: the part of questions
    and of answers that never arrive. ``since``/``until`` bound the time in which anything was wrong."""

    def __init__(self) -> None:
        self.away = False
        self.lost = 0.0
        self.slow_s = 0.0
        self.bad: list[tuple[float, float]] = []

    def fine(self) -> None:
        """Everything arrives again."""
        self.away, self.lost, self.slow_s = False, 0.0, 0.0


class Wire:
    """One replica's way to one place. ``timeout_s`` is its patience; ``failure`` what its caller is told then."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        chance: random.Random,
        weather: Weather,
        trace: Trace,
        failure: Callable[[str], Exception],
        timeout_s: float,
    ) -> None:
        self._name = name
        self._loop = loop
        self._chance = chance
        self._weather = weather
        self._trace = trace
        self._failure = failure
        self._timeout_s = timeout_s
        self._world = Context()
        self.on_late: Callable[[str, tuple[Any, ...]], None] = lambda op, args: None

    def ask(self, op: str, args: tuple[Any, ...], work: Callable[[], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        """Have ``work`` done at the other end, all in one instant. Raises what it raises, or ``failure``."""
        future: asyncio.Future[T] = self._loop.create_future()
        asker = ACTOR.get()
        there, back = self._journey(), self._journey()
        if self._weather.away:
            wait = self._timeout_s if self._chance.random() < 0.3 else there
            self._later(wait, self._fail, asker, future, op, [False], "away")
            return future
        done = [False]
        if self._chance.random() >= self._weather.lost:
            self._later(there, self._do, asker, future, op, args, work, back, done)
        self._later(self._timeout_s, self._fail, asker, future, op, done, "no answer")
        return future

    def _journey(self) -> float:
        quick = self._chance.uniform(*_QUICK_S)
        return quick + (self._chance.random() ** 4) * self._weather.slow_s

    def _do(
        self,
        asker: Actor,
        future: asyncio.Future[T],
        op: str,
        args: tuple[Any, ...],
        work: Callable[[], Coroutine[Any, Any, T]],
        back: float,
        done: list[bool],
    ) -> None:
        if self._weather.away:
            return
        done[0] = True
        if future.done():
            self.on_late(op, args)
        answer, failure = at_once(work())
        if self._chance.random() >= self._weather.lost:
            self._later(back, self._deliver, asker, future, answer, failure)

    def _deliver(self, asker: Actor, future: asyncio.Future[T], answer: T, failure: Exception | None) -> None:
        if future.done() or asker.dead or self._weather.away:
            return
        if failure is None:
            future.set_result(answer)
        else:
            _refuse(future, failure)

    def _fail(self, asker: Actor, future: asyncio.Future[T], op: str, done: list[bool], why: str) -> None:
        if future.done() or asker.dead:
            return
        self._trace.tell("wire", self._name, op, why, "done" if done[0] else "not done")
        _refuse(future, self._failure(f"{self._name}: {why}"))

    def _later(self, delay_s: float, step: Callable[..., None], *args: Any) -> None:
        self._loop.call_later(delay_s, step, *args, context=self._world)


def _refuse(future: asyncio.Future[Any], failure: Exception) -> None:
    future.set_exception(failure)
    future.exception()  # who asked may die before it hears of it; nobody need complain then


def at_once(work: Coroutine[Any, Any, T]) -> tuple[Any, Exception | None]:
    """What a coroutine that never waits returns, or raises."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value, None
    except Exception as failure:
        return None, failure
    work.close()
    raise AssertionError("the twin of the bank waited for something")


class RemoteBank:
    """The bank as a replica has it: every operation goes over the wire, and is done in one instant or not at all."""

    def __init__(self, bank: MemoryBank, wire: Wire) -> None:
        self._bank = bank
        self._wire = wire

    def __getattr__(self, op: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._bank, op)

        async def asked(*args: Any, **named: Any) -> Any:
            return await self._wire.ask(op, args, lambda: method(*args, **named))

        asked.__name__ = op
        setattr(self, op, asked)
        return asked


class RemoteBuckets(Buckets):
    """Redis as a replica has it."""

    def __init__(self, buckets: Buckets, wire: Wire) -> None:
        self._buckets = buckets
        self._wire = wire

    async def admit(self, ask: Ask) -> Ticket | Deny:
        return await self._wire.ask("admit", (ask,), lambda: _plain(self._buckets.admit(ask)))

    async def correct(self, ticket: Ticket, actual: Sequence[int], *, forget: bool = False) -> None:
        await self._wire.ask("correct", (), lambda: _plain(self._buckets.correct(ticket, actual, forget=forget)))

    def end(self, ticket: Ticket, actual: Sequence[int], failed: Failed = unheard, *, forget: bool = False) -> None:
        done = self._wire.ask("correct", (), lambda: _plain(self._buckets.correct(ticket, actual, forget=forget)))
        asyncio.ensure_future(done).add_done_callback(partial(_told, failed))

    async def undo(self, ticket: Ticket) -> None:
        await self._wire.ask("undo", (), lambda: _plain(self._buckets.undo(ticket)))

    async def renew(self, tickets: Iterable[Ticket]) -> None:
        running = list(tickets)
        await self._wire.ask("renew", (), lambda: _plain(self._buckets.renew(running)))

    async def read(self, wallet: str, user: str, windows: Sequence[Window]) -> Reading:
        return await self._wire.ask("read", (), lambda: _plain(self._buckets.read(wallet, user, windows)))

    async def peek(self, ask: Ask) -> Look:
        return await self._wire.ask("peek", (), lambda: _plain(self._buckets.peek(ask)))

    async def clear(self, wallet: str, user: str, windows: Sequence[Window]) -> None:
        await self._wire.ask("clear", (), lambda: _plain(self._buckets.clear(wallet, user, windows)))

    def leave(self, request_id: str) -> None:
        """Nobody waits at a wire."""

    async def ping(self) -> None:
        await self._wire.ask("ping", (), lambda: _plain(self._buckets.ping()))

    async def aclose(self) -> None:
        """The connections of a simulated process close with it."""


def _told(failed: Failed, asked: asyncio.Future[None]) -> None:
    failure = None if asked.cancelled() else asked.exception()
    if isinstance(failure, Exception):
        failed(failure)


async def _plain(work: Awaitable[T]) -> T:
    return await work


def bank_away(why: str) -> Exception:
    return BankUnavailable(why)


def redis_away(why: str) -> Exception:
    return BucketsUnavailable(why)

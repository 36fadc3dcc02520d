"""An event loop whose time is virtual and whose order is drawn from a seed.

Code written for asyncio runs on it unchanged. Each callback belongs to an actor (a process, a backend, a caller), the
one in whose context it was made. Within an actor callbacks keep the order asyncio promises; which actor goes next is
drawn. A dead actor's callbacks are dropped, ``finally`` blocks and all, as ``kill -9`` does; a frozen one's wait until
it is woken. Nothing sleeps: when nobody is ready, the clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")
_LAST_WORDS_MAX = 20


class Actor:
    """Somebody who runs code of its own and can die or be frozen. ``wall_offset_s``: how wrong its clock is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.wall_offset_s = 0.0

    def __repr__(self) -> str:
        return self.name


WORLD = Actor("world")
ACTOR: ContextVar[Actor] = ContextVar("actor", default=WORLD)


class Stuck(Exception):
    """Nobody is ready and no timer is set, but the main coroutine has not ended."""


class _Ready:
    """Callbacks that may run now, by actor. What ``BaseEventLoop`` believes to be its queue."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._queues: dict[Actor, deque[events.Handle]] = {}
        self._frozen: dict[Actor, deque[events.Handle]] = {}

    def append(self, handle: events.Handle) -> None:
        actor = actor_of(handle)
        if actor.dead:
            return
        queues = self._frozen if actor.frozen else self._queues
        queue = queues.get(actor)
        if queue is None:
            queue = queues[actor] = deque()
        queue.append(handle)

    def __len__(self) -> int:
        return len(self._queues)

    def next(self) -> events.Handle:
        """The next callback of an actor drawn by chance."""
        queues = self._queues
        actor = next(iter(queues)) if len(queues) == 1 else self._chance.choice(list(queues))
        queue = queues[actor]
        handle = queue.popleft()
        if not queue:
            del queues[actor]
        return handle

    def kill(self, actor: Actor) -> None:
        self._queues.pop(actor, None)
        self._frozen.pop(actor, None)

    def freeze(self, actor: Actor) -> None:
        if (queue := self._queues.pop(actor, None)) is not None:
            self._frozen[actor] = queue

    def wake(self, actor: Actor) -> None:
        if (queue := self._frozen.pop(actor, None)) is not None:
            self._queues[actor] = queue

    def clear(self) -> None:
        self._queues.clear()
        self._frozen.clear()


class VirtualLoop(asyncio.BaseEventLoop):
    """``chance`` draws the order. ``now`` is virtual seconds since the start."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._ready: Any = _Ready(chance)
        self._scheduled: list[events.TimerHandle] = []
        self.now = 0.0
        self.steps = 0
        self.failures: list[dict[str, Any]] = []
        self._graves: list[asyncio.Task[Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """At once, on this thread: a thread's timing is nobody's to draw."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as failure:
            future.set_exception(failure)
        return future

    def _run_once(self) -> None:
        ready = self._ready
        self._due()
        while not len(ready):
            if not self._scheduled:
                raise Stuck(f"at {self.now:.3f} s")
            self.now = max(self.now, self._scheduled[0].when())
            self._due()
        handle = ready.next()
        if not handle.cancelled() and not actor_of(handle).dead:
            self.steps += 1
            handle._run()

    def _due(self) -> None:
        timers = self._scheduled
        while timers and (timers[0].cancelled() or timers[0].when() <= self.now):
            timer = heapq.heappop(timers)
            timer._scheduled = False  # type: ignore[attr-defined]  # what BaseEventLoop does, too
            if not timer.cancelled():
                self._ready.append(timer)

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets here."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken from."""

    # -- actors

    def spawn(self, actor: Actor, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine, and all it starts, as this actor."""
        context = copy_context()
        context.run(ACTOR.set, actor)
        return asyncio.Task(coroutine, loop=self, context=context, name=actor.name)

    def kill(self, actor: Actor) -> None:
        """The actor is gone between two of its callbacks: nothing of it runs any more."""
        actor.dead = True
        # Collected as garbage, a coroutine would run its `finally` blocks: what a dead process never does.
        self._graves.extend(asyncio.all_tasks(self))
        self._ready.kill(actor)

    def freeze(self, actor: Actor) -> None:
        """The actor stands still; time goes on."""
        actor.frozen = True
        self._ready.freeze(actor)

    def wake(self, actor: Actor) -> None:
        """The actor goes on where it stood; all its timers that fell due meanwhile are due now."""
        actor.frozen = False
        self._ready.wake(actor)


def actor_of(handle: events.Handle) -> Actor:
    """Whose callback this is."""
    actor: Actor = handle._context.get(ACTOR, WORLD)  # type: ignore[attr-defined]  # what call_soon recorded
    return actor


@contextmanager
def running(loop: VirtualLoop) -> Iterator[None]:
    """The loop may be run until the block ends; what then still runs is dropped, not cancelled."""
    events.set_event_loop(loop)
    try:
        yield
    finally:
        _abandon(loop)
        events.set_event_loop(None)


def _abandon(loop: VirtualLoop) -> None:
    """What has not ended never will: tasks must not complain of it when they are collected."""
    loop.failures = []
    tasks = [*asyncio.all_tasks(loop), *loop._graves]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of coroutines that a `finally` block began, and nobody awaits
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if (coroutine := task.get_coro()) is not None:
                _silence(coroutine)
        loop._ready.clear()
        loop._scheduled.clear()
        loop._graves.clear()
        loop.close()


def _silence(coroutine: Any) -> None:
    """Close it however often its `finally` blocks want to wait for something: nobody wants to hear of it."""
    for _ in range(_LAST_WORDS_MAX):
        try:
            coroutine.close()
            return
        except RuntimeError:
            continue  # it awaited something instead of ending
        except Exception:
            return

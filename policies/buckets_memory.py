"""Limits counted in this process: the stand-in while the shared place is away. Nothing survives a restart.

Bounded: the user not seen for longest is forgotten first, and with it what it had used.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from policies import concurrency, rate
from policies.buckets import (
    MARK_TTL_MS,
    Ask,
    Failed,
    Look,
    Reading,
    Ticket,
    duplicate_denial,
    level_of,
    looked,
    unheard,
)
from policies.concurrency import SLOT_TTL_MS
from policies.decision import Deny
from policies.lanes import LANES, Lane
from policies.rate import Counter
from policies.tier import Window


def monotonic_ms() -> int:
    """This process's clock, which never steps back."""
    return time.monotonic_ns() // 1_000_000


class _User:
    """What one user holds: counters by window name, slots by lane and request id."""

    __slots__ = ("counters", "slots")

    def __init__(self) -> None:
        self.counters: dict[str, tuple[int, Counter]] = {}
        self.slots: dict[Lane, dict[str, int]] = {lane: {} for lane in LANES}

    def counter(self, window: Window, now_ms: int) -> Counter:
        _, counter = self.counters.get(window.name, (0, Counter()))
        return rate.pruned(counter, window.seconds, now_ms)

    def put(self, window: Window, counter: Counter) -> None:
        self.counters[window.name] = (window.seconds, counter)

    def prune(self, now_ms: int) -> None:
        """Forgets expired slots and the counters of windows that nobody asks about any more."""
        self.slots = {lane: concurrency.live(slots, now_ms) for lane, slots in self.slots.items()}
        counters = ((name, s, rate.pruned(counter, s, now_ms)) for name, (s, counter) in self.counters.items())
        self.counters = {name: (seconds, counter) for name, seconds, counter in counters if counter.buckets}


class BucketsMemory:
    """`Buckets` in this process. Bounds: `users_max` users, `marks_max` idempotency keys."""

    def __init__(
        self, clock_ms: Callable[[], int] = monotonic_ms, users_max: int = 10_000, marks_max: int = 100_000
    ) -> None:
        self._clock_ms = clock_ms
        self._users_max = users_max
        self._marks_max = marks_max
        self._users: OrderedDict[tuple[str, str], _User] = OrderedDict()
        self._marks: OrderedDict[tuple[str, str, str], tuple[str, int]] = OrderedDict()

    async def admit(self, ask: Ask) -> Ticket | Deny:
        now_ms = self._clock_ms()
        user = self._user(ask.wallet, ask.user)
        user.prune(now_ms)
        return self._duplicate(ask, user, now_ms) or _look(ask, user, now_ms).deny or self._count(ask, user, now_ms)

    async def correct(self, ticket: Ticket, actual: Sequence[int], *, forget: bool = False) -> None:
        self.end(ticket, actual, forget=forget)

    def end(self, ticket: Ticket, actual: Sequence[int], failed: Failed = unheard, *, forget: bool = False) -> None:
        if forget:
            self._forget(ticket)
        user = self._user(ticket.ask.wallet, ticket.ask.user)
        user.slots[ticket.ask.lane].pop(ticket.ask.request_id, None)
        for (window, cost), at, now_cost in zip(ticket.ask.rules, ticket.places, actual, strict=True):
            _, counter = user.counters.get(window.name, (0, Counter()))
            user.put(window, rate.amended(counter, at, now_cost - cost))

    async def undo(self, ticket: Ticket) -> None:
        await self.correct(ticket, [0] * len(ticket.ask.rules), forget=True)

    async def renew(self, tickets: Iterable[Ticket]) -> None:
        now_ms = self._clock_ms()
        for ticket in tickets:
            slots = self._user(ticket.ask.wallet, ticket.ask.user).slots[ticket.ask.lane]
            if slots.get(ticket.ask.request_id, 0) > now_ms:
                slots[ticket.ask.request_id] = now_ms + SLOT_TTL_MS

    async def read(self, wallet: str, user: str, windows: Sequence[Window]) -> Reading:
        now_ms = self._clock_ms()
        held = self._users.get((wallet, user)) or _User()
        levels = tuple(level_of(held.counter(window, now_ms), window, now_ms) for window in windows)
        return Reading(levels, len(concurrency.live(held.slots["own"], now_ms)))

    async def peek(self, ask: Ask) -> Look:
        return _look(ask, self._users.get((ask.wallet, ask.user)) or _User(), self._clock_ms())

    async def clear(self, wallet: str, user: str, windows: Sequence[Window]) -> None:
        held = self._user(wallet, user)
        for window in windows:
            held.counters.pop(window.name, None)

    def leave(self, request_id: str) -> None:
        """Nobody waits here."""

    async def ping(self) -> None:
        """Always well."""

    async def aclose(self) -> None:
        """Holds nothing that must be given back."""

    def _user(self, wallet: str, user: str) -> _User:
        held = self._users.setdefault((wallet, user), _User())
        self._users.move_to_end((wallet, user))
        if len(self._users) > self._users_max:
            self._users.popitem(last=False)
        return held

    def _duplicate(self, ask: Ask, user: _User, now_ms: int) -> Deny | None:
        if ask.idempotency:
            earlier, expiry = self._marks.get(_mark(ask), ("", 0))
            if expiry > now_ms:
                return duplicate_denial(earlier)
        return duplicate_denial(ask.request_id) if ask.request_id in user.slots[ask.lane] else None

    def _count(self, ask: Ask, user: _User, now_ms: int) -> Ticket:
        counters = [
            rate.spent(user.counter(window, now_ms), window.seconds, cost, now_ms) for window, cost in ask.rules
        ]
        for (window, _), counter in zip(ask.rules, counters, strict=True):
            user.put(window, counter)
        user.slots[ask.lane][ask.request_id] = now_ms + SLOT_TTL_MS
        self._remember(ask, now_ms)
        return Ticket(ask, tuple(c.newest for c in counters), tuple(c.used for c in counters), now_ms)

    def _forget(self, ticket: Ticket) -> None:
        mark = _mark(ticket.ask)
        if self._marks.get(mark, ("", 0))[0] == ticket.ask.request_id:
            del self._marks[mark]

    def _remember(self, ask: Ask, now_ms: int) -> None:
        if not ask.idempotency:
            return
        self._marks[_mark(ask)] = (ask.request_id, now_ms + MARK_TTL_MS)
        self._marks.move_to_end(_mark(ask))
        if len(self._marks) > self._marks_max:
            self._marks.popitem(last=False)


def _look(ask: Ask, user: _User, now_ms: int) -> Look:
    counters = [user.counter(window, now_ms) for window, _ in ask.rules]
    return looked(ask, counters, len(concurrency.live(user.slots[ask.lane], now_ms)), now_ms)


def _mark(ask: Ask) -> tuple[str, str, str]:
    return ask.wallet, ask.user, ask.idempotency

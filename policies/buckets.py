"""Where limits are counted, as a protocol: the question, the ticket that answers it, and who can be asked.

The places themselves are `buckets_redis.py` (shared by all replicas), `buckets_memory.py` (this process) and
`buckets_fallback.py` (the first, or the second while the first is away).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from policies import concurrency
from policies.decision import Deny, Standing, strictest
from policies.lanes import Lane
from policies.rate import Counter, reset_ms, wait_ms
from policies.tier import Of, Window

MARK_TTL_MS = 24 * 3600 * 1000
"""How long an idempotency key is remembered."""

Rules = tuple[tuple[Window, int], ...]
"""Each window a call counts in, with the cost of this call in the unit of that window."""

_SHOWN: dict[Of, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
}
"""Under which kind a window is shown to callers, by what it counts. Of money they are told another way."""

Failed = Callable[[Exception], None]
"""Told once why the end of a call could not be delivered: BucketsUnavailable or BucketsBusy. Never raises."""


def unheard(failure: Exception) -> None:
    """Nobody wants to know."""


class BucketsUnavailable(Exception):
    """The place where limits are counted cannot be reached or cannot answer. Not the caller's fault."""


class BucketsBusy(Exception):
    """This process has more questions waiting than it may queue. The place itself may be well."""


class Ask(Struct, frozen=True):
    """May this call start? `concurrency` 0 is no limit, and is that of the `lane`, whose open calls alone it bounds;
    `idempotency` "" is no key. `wait_ms` is how long the call would wait for its turn, where it can (`buckets_queue`).
    """

    wallet: str
    user: str
    request_id: str
    concurrency: int = 0
    idempotency: str = ""
    rules: Rules = ()
    lane: Lane = "own"
    wait_ms: int = 0


class Level(Struct, frozen=True):
    """How full one window is: `used` in its unit, all of it back in `reset_ms`."""

    used: int
    reset_ms: int


class Reading(Struct, frozen=True):
    """What is used now: one level per window, in the order asked, and the open calls that a person asked for."""

    levels: tuple[Level, ...]
    open_calls: int


class Look(Struct, frozen=True):
    """What `admit` would answer now: how full each window of the ask is, the open calls of its lane, and the denial, if
    any."""

    levels: tuple[Level, ...]
    open_calls: int
    deny: Deny | None = None


class Ticket(Struct, frozen=True):
    """A call that was admitted: what was asked, and where each cost was counted.

    `places` are the bucket indices and `used` the amounts after admission, both in the order of the rules. `local`
    marks a ticket of the fallback, which is corrected where it was made.
    """

    ask: Ask
    places: tuple[int, ...]
    used: tuple[int, ...]
    now_ms: int
    local: bool = False

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Where the caller stands after this call, in requests and in tokens: in the window with the least left."""
        rules, used = self.ask.rules, self.used
        closest: dict[str, tuple[int, int]] = {}
        for i, (window, _) in enumerate(rules):
            kind = _SHOWN.get(window.of)
            if kind is None:
                continue
            left, shown = window.limit - used[i], closest.get(kind)
            if shown is None or left < shown[0] or (left == shown[0] and self._is_lower(i, shown[1])):
                closest[kind] = left, i
        standings = []
        for kind, (left, i) in closest.items():
            window = rules[i][0]
            back_ms = reset_ms(used[i], self.places[i], window.seconds, self.now_ms)
            standings.append(Standing(kind, window.limit, left if left > 0 else 0, back_ms))
        return tuple(standings)

    def _is_lower(self, i: int, shown: int) -> bool:
        """Of windows with as much left, the lowest is shown: the slowest to come back of those that count the same."""
        rules, used, places = self.ask.rules, self.used, self.places
        this, other = rules[i][0], rules[shown][0]
        if this.of != other.of:
            return next(window.of for window, _ in rules if window.of in (this.of, other.of)) == this.of
        back_ms = reset_ms(used[i], places[i], this.seconds, self.now_ms)
        return back_ms > reset_ms(used[shown], places[shown], other.seconds, self.now_ms)


class Buckets(Protocol):
    """A place where limits are counted. Every method may raise BucketsUnavailable or BucketsBusy."""

    async def admit(self, ask: Ask) -> Ticket | Deny:
        """Counts the call in everything, or in nothing and says why.

        Codes: rate_limit_requests, rate_limit_tokens, rate_limit_cost, too_many_concurrent; idempotency_conflict for
        a request id that is open or an idempotency key that was used, with the earlier request id as `Deny.limit`.
        """
        ...

    async def correct(self, ticket: Ticket, actual: Sequence[int], *, forget: bool = False) -> None:
        """Ends the call: each rule's cost becomes `actual` where it was counted, and the slot is given back.

        `forget` takes the idempotency key back, too: of a call that came to nothing, which may be made again.
        """
        ...

    def end(self, ticket: Ticket, actual: Sequence[int], failed: Failed = unheard, *, forget: bool = False) -> None:
        """`correct` for a caller who does not wait: it has begun on return, before anything that is asked later, and is
        brought to its end by itself. Never raises."""
        ...

    async def undo(self, ticket: Ticket) -> None:
        """Takes the call back as if it had never been admitted, its idempotency key included."""
        ...

    async def renew(self, tickets: Iterable[Ticket]) -> None:
        """Keeps the slots of running calls. A slot that has already freed itself stays free."""
        ...

    async def read(self, wallet: str, user: str, windows: Sequence[Window]) -> Reading:
        """What is used now, spending nothing."""
        ...

    async def peek(self, ask: Ask) -> Look:
        """What `admit` would answer now, counting nothing. Request id and idempotency key are not looked at."""
        ...

    async def clear(self, wallet: str, user: str, windows: Sequence[Window]) -> None:
        """Empties these windows of a user. Slots stay: open calls are open."""
        ...

    def leave(self, request_id: str) -> None:
        """The caller has left: where the call waits for its turn, it does so no longer, and `admit` is cancelled."""
        ...

    async def ping(self) -> None:
        """Returns if the place can answer."""
        ...

    async def aclose(self) -> None:
        """Gives back what the place holds (connections, tasks)."""
        ...


def looked(ask: Ask, counters: Sequence[Counter], open_calls: int, now_ms: int) -> Look:
    """What these pruned counters, in the order of the rules, say to the ask: the specification of `admit.lua`."""
    rows = list(zip(ask.rules, counters, strict=True))
    levels = tuple(level_of(counter, window, now_ms) for (window, _), counter in rows)
    denials = (_denial(counter, window, cost, now_ms) for (window, cost), counter in rows)
    return Look(levels, open_calls, strictest((concurrency.check(open_calls, ask.concurrency, ask.lane), *denials)))


def _denial(counter: Counter, window: Window, cost: int, now_ms: int) -> Deny | None:
    wait = wait_ms(counter, window, cost, now_ms)
    return None if wait == 0 else window_denial(window, cost, counter.used, wait)


def window_denial(window: Window, cost: int, used: int, wait_ms: int | None) -> Deny:
    """The refusal by a window; a wait of None (it can never fit) is told as 0."""
    kind = "tokens" if window.of.endswith("tokens") else window.of
    available = max(0, window.limit - used)
    return Deny(f"rate_limit_{kind}", window.name, window.limit, used, cost, available, wait_ms or 0)


def level_of(counter: Counter, window: Window, now_ms: int) -> Level:
    """How full a pruned counter is."""
    return Level(counter.used, reset_ms(counter.used, counter.newest, window.seconds, now_ms))


def duplicate_denial(earlier: str) -> Deny:
    """The refusal of a call that was already made as request `earlier`."""
    return Deny("idempotency_conflict", limit=earlier)

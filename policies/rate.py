"""A rolling window, purely: what was counted, a cost and the time in; the wait or the next counter out.

This file is the specification of `admit.lua` and `correct.lua`; a test holds them against each other.

A window of S seconds is counted in 60 sub-buckets of S/60 (rounded up to a millisecond). A bucket counts fully until
the last moment it may hold has left the window, so that no interval of S seconds ever holds more than the limit. The
price is that an amount comes back at most one bucket late: 1.7 % of the window. A log of single calls would be exact
but unbounded; two fixed windows with weights are smaller but let bursts through at their border.
"""

from __future__ import annotations

from itertools import accumulate

from msgspec import Struct

from policies.tier import Window


class Counter(Struct, frozen=True):
    """What one window holds: (bucket index, amount), ascending by index; at most 62 after `pruned`."""

    buckets: tuple[tuple[int, int], ...] = ()

    @property
    def used(self) -> int:
        """The sum of all buckets, in the unit of the window."""
        return sum(amount for _, amount in self.buckets)

    @property
    def newest(self) -> int:
        """Index of the last bucket; 0 if there is none."""
        return self.buckets[-1][0] if self.buckets else 0


def width_ms(seconds: int) -> int:
    """Width of one sub-bucket of a window of `seconds`."""
    return (seconds * 50 + 2) // 3


def expiry_ms(index: int, seconds: int) -> int:
    """The moment at which the last amount that bucket `index` may hold has left the window."""
    return (index + 1) * width_ms(seconds) + seconds * 1000


def place(counter: Counter, seconds: int, now_ms: int) -> int:
    """The bucket an amount goes to now. A clock that steps back does not open older buckets."""
    return max(now_ms // width_ms(seconds), counter.newest)


def pruned(counter: Counter, seconds: int, now_ms: int) -> Counter:
    """The counter without the buckets that have expired."""
    clock = max(now_ms, counter.newest * width_ms(seconds))
    live = tuple(bucket for bucket in counter.buckets if expiry_ms(bucket[0], seconds) > clock)
    return counter if len(live) == len(counter.buckets) else Counter(live)


def wait_ms(counter: Counter, window: Window, cost: int, now_ms: int) -> int | None:
    """The smallest wait after which `cost` fits into a pruned counter: 0 is now, None is never."""
    if cost > window.limit:
        return None
    excess = counter.used + cost - window.limit
    if excess <= 0:
        return 0
    sums = accumulate(amount for _, amount in counter.buckets)
    freeing = next(index for (index, _), freed in zip(counter.buckets, sums, strict=True) if freed >= excess)
    return expiry_ms(freeing, window.seconds) - now_ms


def spent(counter: Counter, seconds: int, cost: int, now_ms: int) -> Counter:
    """The counter after `cost` was admitted."""
    index = place(counter, seconds, now_ms)
    if counter.buckets and index == counter.newest:
        return amended(counter, index, cost)
    return Counter((*counter.buckets, (index, cost)))


def amended(counter: Counter, index: int, change: int) -> Counter:
    """The counter with bucket `index` changed, never below zero; a bucket that has gone stays gone."""
    return Counter(tuple((at, max(0, amount + change) if at == index else amount) for at, amount in counter.buckets))


def reset_ms(used: int, newest: int, seconds: int, now_ms: int) -> int:
    """The wait until nothing is used any more."""
    if not used:
        return 0
    # `expiry_ms`, written out: every call's headers tell this for all of its windows.
    return max(0, (newest + 1) * ((seconds * 50 + 2) // 3) + seconds * 1000 - now_ms)

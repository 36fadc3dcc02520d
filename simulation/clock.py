"""For the length of a run, every clock and every chance the house reads is the simulation's.

The house asks ``time``, ``datetime.now`` and ``os.urandom`` and is not told otherwise: what runs here is what runs in
production. A clock that was set wrong belongs to one actor: its wall clock is off, its monotonic clock is not.
"""

from __future__ import annotations

import datetime as datetime_module
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from types import ModuleType
from typing import Any

from ledger.ids import draw_anew
from simulation.loop import ACTOR, VirtualLoop

BEGINS = datetime(2027, 1, 31, 23, 50, tzinfo=UTC).timestamp()
"""When every run begins: ten minutes before a month's border."""

ROOMS = ("ledger", "policies", "config", "accounts", "gateway")


class _Clock:
    """What the house reads while a run lasts."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self._loop = loop
        self._chance = chance

    def monotonic(self) -> float:
        return self._loop.now

    def monotonic_ns(self) -> int:
        return int(self._loop.now * 1e9)

    def time(self) -> float:
        return BEGINS + self._loop.now + ACTOR.get().wall_offset_s

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def urandom(self, size: int) -> bytes:
        return self._chance.randbytes(size)


class _Datetime:
    """What a module has in the place of the class ``datetime``: the same in all but ``now``. No subclass, because what
    it makes must be plain datetimes."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def now(self, tz: tzinfo | None = None) -> datetime:
        return datetime.fromtimestamp(self._clock.time(), tz)

    def __getattr__(self, name: str) -> Any:
        return getattr(datetime, name)

    def __call__(self, *args: Any, **named: Any) -> datetime:
        return datetime(*args, **named)


@contextmanager
def virtual(loop: VirtualLoop, chance: random.Random) -> Iterator[None]:
    """The clocks are this loop's and the random bytes this generator's until the block ends."""
    clock = _Clock(loop, chance)
    names = ("monotonic", "monotonic_ns", "time", "time_ns")
    real = {name: getattr(time, name) for name in names}
    real_urandom, readers = os.urandom, _readers()
    try:
        for name in names:
            setattr(time, name, getattr(clock, name))
        os.urandom = clock.urandom
        draw_anew()
        for module in readers:
            module.datetime = _Datetime(clock)  # type: ignore[attr-defined]
        yield
    finally:
        for module in readers:
            module.datetime = datetime  # type: ignore[attr-defined]
        os.urandom = real_urandom
        draw_anew()
        for name, function in real.items():
            setattr(time, name, function)


def _readers() -> list[ModuleType]:
    """The house's modules that hold the name ``datetime``."""
    found = [module for name, module in sys.modules.items() if name.partition(".")[0] in ROOMS]
    return [module for module in found if getattr(module, "datetime", None) is datetime_module.datetime]

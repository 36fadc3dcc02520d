"""The twin of Redis: the limits counted in one memory for all replicas, which can forget all, or go back in time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from policies.buckets_memory import BucketsMemory, _User
from policies.lanes import Lane

Slots = dict[Lane, dict[str, int]]


class SharedBuckets(BucketsMemory):
    """One for all replicas. The contract it keeps beside a real Redis is held in ``tests/contracts``."""

    def flush(self) -> None:
        """Everything is forgotten."""
        self._users.clear()
        self._marks.clear()

    def copy(self) -> Any:
        """How it stands now, for ``roll_back``."""
        users = [(who, dict(user.counters), _copied(user.slots)) for who, user in self._users.items()]
        return users, list(self._marks.items())

    def roll_back(self, copy: Any) -> None:
        """Everything since that copy is forgotten: a replica that was behind took over."""
        users, marks = copy
        self.flush()
        for who, counters, slots in users:
            user = self._users[who] = _User()
            user.counters, user.slots = dict(counters), _copied(slots)
        self._marks = OrderedDict(marks)

    def open_slots(self, now_ms: int) -> int:
        """Slots that have neither been given back nor run out."""
        lanes = (slots for user in self._users.values() for slots in user.slots.values())
        return sum(1 for slots in lanes for expiry in slots.values() if expiry > now_ms)

    @property
    def now_ms(self) -> int:
        return self._clock_ms()


def _copied(slots: Slots) -> Slots:
    return {lane: dict(held) for lane, held in slots.items()}

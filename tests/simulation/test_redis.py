"""The twin of Redis can forget, and go back in time."""

from __future__ import annotations

from policies.buckets import Ask, Ticket
from policies.tier import Window
from simulation.redis import SharedBuckets

WINDOW = Window(2, "requests", 60)


async def admitted(buckets: SharedBuckets, request_id: str) -> bool:
    return isinstance(await buckets.admit(Ask("w", "u", request_id, 0, "", ((WINDOW, 1),))), Ticket)


async def test_a_flush_forgets_all_and_a_rollback_what_came_since() -> None:
    buckets = SharedBuckets(lambda: 1_000_000)
    assert await admitted(buckets, "1")
    copy = buckets.copy()
    assert await admitted(buckets, "2") and not await admitted(buckets, "3")
    assert buckets.open_slots(buckets.now_ms) == 2
    buckets.roll_back(copy)
    assert buckets.open_slots(buckets.now_ms) == 1
    assert await admitted(buckets, "4") and not await admitted(buckets, "5")
    buckets.flush()
    assert buckets.open_slots(buckets.now_ms) == 0 and await admitted(buckets, "6")

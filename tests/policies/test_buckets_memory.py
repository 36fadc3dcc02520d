"""The memory of this process has bounds, and what goes first is what was not used for longest."""

from __future__ import annotations

from policies.buckets import MARK_TTL_MS, Ask, Ticket
from policies.buckets_memory import BucketsMemory, monotonic_ms
from policies.tier import Window

WINDOW = Window(10, "requests", 60)


def ask(user: str, request_id: str = "r", idempotency: str = "") -> Ask:
    return Ask("w", user, request_id, idempotency=idempotency, rules=((WINDOW, 1),))


async def used(buckets: BucketsMemory, user: str) -> int:
    return (await buckets.read("w", user, [WINDOW])).levels[0].used


async def test_the_user_not_seen_for_longest_is_forgotten_first() -> None:
    buckets = BucketsMemory(users_max=2)
    for user in ("a", "b"):
        await buckets.admit(ask(user))
    await buckets.admit(ask("a", "again"))
    await buckets.admit(ask("c"))
    assert [await used(buckets, user) for user in ("a", "b", "c")] == [2, 0, 1]


async def test_reading_remembers_nobody() -> None:
    buckets = BucketsMemory(users_max=1)
    await buckets.admit(ask("a"))
    await used(buckets, "stranger")
    assert await used(buckets, "a") == 1


async def test_idempotency_keys_are_bounded_and_expire() -> None:
    now = 0
    buckets = BucketsMemory(lambda: now, marks_max=1)
    await buckets.admit(ask("a", "1", "first"))
    await buckets.admit(ask("a", "2", "second"))
    assert isinstance(await buckets.admit(ask("a", "3", "first")), Ticket), (
        "forgotten: one mark is all there is room for"
    )
    now = MARK_TTL_MS - 1
    assert not isinstance(await buckets.admit(ask("a", "4", "first")), Ticket)
    now = MARK_TTL_MS
    assert isinstance(await buckets.admit(ask("a", "5", "first")), Ticket)


async def test_windows_nobody_asks_about_any_more_are_forgotten() -> None:
    now = 0
    buckets = BucketsMemory(lambda: now)
    await buckets.admit(ask("a"))
    now = 61_000
    await buckets.admit(Ask("w", "a", "later"))
    assert buckets._users["w", "a"].counters == {}


def test_its_clock_never_steps_back() -> None:
    assert monotonic_ms() <= monotonic_ms()

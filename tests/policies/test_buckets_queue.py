"""Waiting for one's turn: bounded, in order, beside others, and leaving nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from policies.buckets import Ask, Ticket
from policies.buckets_memory import BucketsMemory
from policies.buckets_queue import BucketsQueue
from policies.decision import Deny
from policies.tier import Window

SECONDS = Window(2, "requests", 1)
HOURS = Window(2, "requests", 3600)


class Counting(BucketsMemory):
    """Windows in memory that know how often they were asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def admit(self, ask: Ask) -> Ticket | Deny:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().admit(ask)


def ask(user: str = "ada", wait_ms: int = 10_000, concurrency: int = 1, *rules: tuple[Window, int], **more: Any) -> Ask:
    return Ask("w", user, str(uuid4()), concurrency, "", rules, "embeddings", wait_ms, **more)


def queue(**bounds: int) -> tuple[BucketsQueue, Counting]:
    inner = Counting()
    return BucketsQueue(inner, **bounds), inner


async def ticket(buckets: BucketsQueue, asked: Ask) -> Ticket:
    answer = await buckets.admit(asked)
    assert isinstance(answer, Ticket)
    return answer


async def waits(buckets: BucketsQueue, asked: Ask, position: int) -> asyncio.Task[Ticket | Deny]:
    task = asyncio.create_task(buckets.admit(asked))
    while buckets.waiting < position:
        await asyncio.sleep(0)
    return task


async def test_who_does_not_wait_is_answered_at_once() -> None:
    buckets, _ = queue()
    await ticket(buckets, ask(wait_ms=0))
    answer = await buckets.admit(ask(wait_ms=0))
    assert isinstance(answer, Deny) and answer.code == "too_many_concurrent" and buckets.waiting == 0


async def test_a_slot_that_is_given_back_is_the_next_ones_in_the_order_in_which_they_came() -> None:
    buckets, _ = queue()
    running = await ticket(buckets, ask())
    order: list[int] = []
    asks = [ask() for _ in range(5)]

    async def call(place: int) -> None:
        mine = await ticket(buckets, asks[place])
        order.append(place)
        if place % 2:
            buckets.end(mine, ())
        else:
            await buckets.correct(mine, ())

    calls = [asyncio.create_task(call(place)) for place in range(5)]
    while buckets.waiting < 5:
        await asyncio.sleep(0)
    await buckets.correct(running, ())
    await asyncio.gather(*calls)
    assert order == [0, 1, 2, 3, 4] and buckets.waiting == 0 and not buckets._lines


async def test_an_upload_of_many_passes_a_few_at_a_time() -> None:
    buckets, inner = queue()
    open_now, most = 0, 0

    async def call() -> None:
        nonlocal open_now, most
        mine = await ticket(buckets, ask(concurrency=8))
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.005)
        open_now -= 1
        await buckets.correct(mine, ())

    await asyncio.gather(*(call() for _ in range(43)))
    assert most == 8
    # Only the first of the line asks again, so the questions are of the order of the calls.
    assert inner.asked < 43 * 4


async def test_a_window_that_has_room_soon_is_waited_for_without_asking_again_and_again() -> None:
    buckets, inner = queue()
    for _ in range(2):
        await buckets.correct(await ticket(buckets, ask("ada", 10_000, 0, (SECONDS, 1))), (1,))
    before = inner.asked
    assert await ticket(buckets, ask("ada", 10_000, 0, (SECONDS, 1)))
    assert inner.asked - before <= 4


@pytest.mark.parametrize(
    "hopeless",
    [(HOURS, 1), (Window(5, "tokens", 1), 9), (Window(0, "requests", 1), 1)],
    ids=["not in time", "too large", "never"],
)
async def test_what_waiting_does_not_help_is_refused_at_once(hopeless: tuple[Window, int]) -> None:
    buckets, _ = queue()
    for _ in range(2):
        await buckets.admit(ask("ada", 0, 0, (HOURS, 1)))
    answer = await buckets.admit(ask("ada", 10_000, 0, hopeless))
    assert isinstance(answer, Deny) and answer.code.startswith("rate_limit") and buckets.waiting == 0


async def test_whose_time_is_up_hears_the_refusal() -> None:
    buckets, _ = queue()
    running = await ticket(buckets, ask())
    answers = await asyncio.gather(*(buckets.admit(ask(wait_ms=30)) for _ in range(3)))
    assert [answer.code for answer in answers if isinstance(answer, Deny)] == ["too_many_concurrent"] * 3
    assert buckets.waiting == 0
    await buckets.correct(running, ())
    assert await ticket(buckets, ask(wait_ms=30))


async def test_a_slot_given_back_elsewhere_is_found_by_looking() -> None:
    buckets, inner = queue()
    running = await ticket(buckets, ask())
    task = await waits(buckets, ask(), 1)
    await inner.correct(running, ())  # by another replica
    assert isinstance(await task, Ticket)


async def test_one_users_line_is_not_anothers() -> None:
    buckets, _ = queue(line_max=2)
    running = await ticket(buckets, ask("ada"))
    lines = [await waits(buckets, ask("ada"), 1), await waits(buckets, ask("ada"), 2)]
    assert await ticket(buckets, ask("bob"))
    await buckets.correct(running, ())
    for each in lines:
        answer = await each
        assert isinstance(answer, Ticket)
        await buckets.correct(answer, ())


async def test_a_full_line_and_a_full_house_refuse_who_comes_then() -> None:
    buckets, _ = queue(line_max=1, waiting_max=2)
    for user in ("ada", "bob", "eve"):
        await ticket(buckets, ask(user))
    lines = [await waits(buckets, ask("ada"), 1), await waits(buckets, ask("bob"), 2)]
    for user in ("ada", "eve"):
        assert isinstance(await buckets.admit(ask(user)), Deny)
    assert buckets.waiting == 2
    buckets.close()
    assert all(isinstance(answer, Deny) for answer in await asyncio.gather(*lines))


async def test_who_leaves_frees_the_place_and_nothing_is_counted() -> None:
    buckets, inner = queue()
    running = await ticket(buckets, ask())
    gone, stays = ask(), ask()
    first, second = await waits(buckets, gone, 1), await waits(buckets, stays, 2)
    buckets.leave(gone.request_id)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert buckets.waiting == 1
    await buckets.correct(running, ())
    assert isinstance(await second, Ticket)
    reading = await inner.peek(ask())
    assert reading.open_calls == 1
    buckets.leave("nobody waits by this id")


async def test_who_leaves_while_being_asked_for_gives_back_what_was_counted() -> None:
    class Slow(BucketsMemory):
        asking = asyncio.Event()
        answer = asyncio.Event()

        async def admit(self, ask: Ask) -> Ticket | Deny:
            if ask.user == "ada":
                self.asking.set()
                await self.answer.wait()
            return await super().admit(ask)

    inner = Slow()
    buckets = BucketsQueue(inner)
    inner.answer.set()
    running = await ticket(buckets, ask("ada"))
    mine = ask("ada")
    task = await waits(buckets, mine, 1)
    inner.answer.clear()
    inner.asking.clear()
    await buckets.correct(running, ())
    await inner.asking.wait()
    buckets.leave(mine.request_id)
    inner.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await inner.peek(ask("ada"))).open_calls == 0


async def test_a_task_that_is_cancelled_steps_out_of_the_line() -> None:
    buckets, _ = queue()
    await ticket(buckets, ask())
    task = await waits(buckets, ask(), 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert buckets.waiting == 0


async def test_closing_ends_every_wait_and_begins_none() -> None:
    buckets, _ = queue()
    await ticket(buckets, ask())
    lines = [await waits(buckets, ask(), place) for place in (1, 2, 3)]
    buckets.close()
    assert all(isinstance(answer, Deny) for answer in await asyncio.gather(*lines))
    assert isinstance(await buckets.admit(ask()), Deny) and buckets.waiting == 0
    await buckets.aclose()


async def test_windows_that_are_cleared_let_the_first_one_pass() -> None:
    buckets, _ = queue()
    rule = (Window(1, "requests", 5), 1)
    await buckets.correct(await ticket(buckets, ask("ada", 10_000, 0, rule)), (1,))
    task = await waits(buckets, ask("ada", 10_000, 0, rule), 1)
    await buckets.clear("w", "ada", [rule[0]])
    assert isinstance(await asyncio.wait_for(task, 30), Ticket)


async def test_everything_else_goes_through() -> None:
    buckets, _ = queue()
    mine = await ticket(buckets, ask("ada", 0, 0, (HOURS, 1)))
    await buckets.renew([mine])
    assert (await buckets.read("w", "ada", [HOURS])).levels[0].used == 1
    assert (await buckets.peek(ask("ada", 0, 0, (HOURS, 1)))).levels[0].used == 1
    await buckets.undo(mine)
    assert (await buckets.read("w", "ada", [HOURS])).levels[0].used == 0
    await buckets.ping()

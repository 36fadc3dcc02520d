"""Concurrent requests share a trip, and nobody's trouble is a neighbour's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ledger.batch import Batcher, Full


class Doubler:
    """Answers numbers by their double when its gate is open; a negative one is refused, 13 takes its batch with it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(numbers))
        await self.gate.wait()
        if 13 in numbers:
            raise RuntimeError("no thirteen")
        return [ValueError(number) if number < 0 else 2 * number for number in numbers]


async def _asked(batcher: Batcher[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.ask(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def test_each_request_gets_its_own_answer() -> None:
    batcher = Batcher(Doubler(), size=10, waiting=100)
    assert await asyncio.gather(*(batcher.ask(number) for number in range(100, 150))) == list(range(200, 300, 2))


async def test_what_comes_while_a_batch_is_under_way_shares_the_next_one() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = Batcher(doubler, size=3, waiting=100)
    first = await _asked(batcher, 1)
    await asyncio.sleep(0)
    rest = await _asked(batcher, 2, 3, 4, 5)
    doubler.gate.set()
    await asyncio.gather(*first, *rest)
    assert doubler.batches == [[1], [2, 3, 4], [5]]


async def test_an_answer_that_is_an_exception_is_its_own_requests_alone() -> None:
    batcher = Batcher(Doubler(), size=10, waiting=100)
    answers = await asyncio.gather(batcher.ask(1), batcher.ask(-1), batcher.ask(2), return_exceptions=True)
    assert [answers[0], answers[2]] == [2, 4] and isinstance(answers[1], ValueError)


async def test_a_failed_trip_fails_its_batch_and_not_the_next() -> None:
    batcher = Batcher(Doubler(), size=2, waiting=100)
    answers = await asyncio.gather(*(batcher.ask(number) for number in (1, 13, 2, 3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError, int, int]
    assert await batcher.ask(4) == 8


async def test_more_than_the_bound_do_not_wait() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = Batcher(doubler, size=1, waiting=2)
    first = await _asked(batcher, 1)
    await asyncio.sleep(0)
    waiting = await _asked(batcher, 2, 3)
    with pytest.raises(Full):
        await batcher.ask(4)
    doubler.gate.set()
    assert await asyncio.gather(*first, *waiting) == [2, 4, 6]


async def test_a_cancelled_wait_takes_no_neighbour_along() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = Batcher(doubler, size=10, waiting=100)
    one, other = await _asked(batcher, 1, 2)
    one.cancel()
    doubler.gate.set()
    assert await other == 4


async def test_a_request_cancelled_before_it_left_is_not_sent() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    batcher = Batcher(doubler, size=1, waiting=100)
    [first] = await _asked(batcher, 1)
    await asyncio.sleep(0)
    second, third = await _asked(batcher, 2, 3)
    second.cancel()
    await asyncio.sleep(0)
    doubler.gate.set()
    assert await asyncio.gather(*[first, third]) == [2, 6]
    assert doubler.batches == [[1], [3]]


async def test_an_answer_nobody_waits_for_any_more_is_told() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    told: list[tuple[int, int]] = []
    batcher = Batcher(doubler, size=10, waiting=100, unclaimed=lambda request, answer: told.append((request, answer)))
    one, other = await _asked(batcher, 1, 2)
    await asyncio.sleep(0)
    one.cancel()
    doubler.gate.set()
    await other
    assert told == [(1, 2)]


async def test_an_answer_that_came_with_the_cancellation_is_told_too() -> None:
    told: list[int] = []

    async def answer_and_cancel(numbers: Sequence[int]) -> Sequence[int]:
        asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(asker.cancel))
        await asyncio.sleep(0)
        return [2 * number for number in numbers]

    batcher = Batcher(answer_and_cancel, size=1, waiting=1, unclaimed=lambda _, answer: told.append(answer))
    asker = asyncio.create_task(batcher.ask(1))
    with pytest.raises(asyncio.CancelledError):
        await asker
    assert told == [2]

"""Virtual time, and actors that die between two of their callbacks."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from simulation.loop import Actor, Stuck, VirtualLoop, running


def ran(seed: int) -> list[str]:
    said: list[str] = []

    async def speaks(name: str) -> None:
        try:
            for turn in range(4):
                await asyncio.sleep(1)
                said.append(f"{name}{turn}")
        finally:
            said.append(f"{name} ends")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        dies, sleeps = Actor("dies"), Actor("sleeps")
        loop.spawn(dies, speaks("d"))
        loop.spawn(sleeps, speaks("s"))
        await asyncio.sleep(1.5)
        loop.kill(dies)
        loop.freeze(sleeps)
        await asyncio.sleep(10)
        said.append("woken")
        loop.wake(sleeps)
        await asyncio.sleep(5)
        said.append("over")

    loop = VirtualLoop(Random(seed))
    with running(loop):
        loop.run_until_complete(main())
    return said[: said.index("over")]


def test_the_dead_say_nothing_more_and_the_frozen_go_on_when_woken() -> None:
    said = ran(1)
    assert sorted(said[:2]) == ["d0", "s0"]
    assert said[2:] == ["woken", "s1", "s2", "s3", "s ends"]


def test_the_same_seed_gives_the_same_order_and_another_another() -> None:
    assert ran(7) == ran(7)
    assert len({tuple(ran(seed)) for seed in range(8)}) > 1


def test_nobody_ready_and_no_timer_is_told() -> None:
    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop(Random(0))
    with running(loop), pytest.raises(Stuck):
        loop.run_until_complete(waits())


def test_a_thread_answers_at_once() -> None:
    async def main() -> int:
        return await asyncio.to_thread(lambda: 5)

    loop = VirtualLoop(Random(0))
    with running(loop):
        assert loop.run_until_complete(main()) == 5

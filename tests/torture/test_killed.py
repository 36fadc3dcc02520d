"""Two hundred streams over three replicas, one of which is killed every few seconds and started again."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.judge import judged
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
STREAMS, SECONDS = 200, 60.0
HABITS = Habits(length=(40, 140), rate=(7, 12), chunk=2, leaves=0.05, fails=0.03, keyed=0.3, tries=3)


async def test_what_killed_replicas_had_not_said_is_two_seconds_at_most_and_nothing_is_said_twice(
    open_town: TownOpener, seed: int
) -> None:
    async with open_town() as town:
        people = await town.settle_in(40)
        until = time.monotonic() + SECONDS
        crowd = Crowd(people, HABITS, seed)
        calling = asyncio.create_task(keep(town.swarm, crowd, STREAMS, lambda: time.monotonic() > until))
        async with town.watched():
            await _killing(town, until, random.Random(f"{seed} kills"))
            await calling
        report = await judged(town, f"a replica killed every 2 to 7 s, {STREAMS} streams, {len(town.deaths)} kills")
    assert report.good
    assert report.counts["calls charged by their last checkpoint"] > len(town.deaths) > 1


async def _killing(town: Town, until: float, chance: random.Random) -> None:
    """The next one is killed while the last may still be starting; one is left. All of them run at the end."""
    starting: set[asyncio.Task[None]] = set()
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(2, 7))
        running = [each for each in town.replicas if each.url]
        if len(running) > 1:
            victim = chance.choice(running)
            await victim.kill()
            starting.add(asyncio.create_task(victim.start()))
    await asyncio.gather(*starting)

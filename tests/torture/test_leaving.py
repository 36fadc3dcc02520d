"""A thousand callers, each of whom leaves at a byte of its own choice."""

from __future__ import annotations

import asyncio

import pytest

from tests.torture.crowd import Crowd, Habits
from tests.torture.judge import judged
from tests.torture.town import TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
CALLERS, AT_ONCE = 1000, 120
HABITS = Habits(length=(10, 60), rate=(10, 40), chunk=2, leaves=1.0, fails=0.05, streamed=0.9, slow=0.05, stalls=False)


async def test_a_thousand_callers_leave_at_any_byte(open_town: TownOpener, seed: int) -> None:
    async with open_town() as town:
        crowd, room = Crowd(await town.settle_in(50), HABITS, seed), asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with room:
                await town.swarm.call(crowd.order())

        await asyncio.gather(*(one() for _ in range(CALLERS)))
        report = await judged(town, f"{CALLERS} callers leave at any byte")
    assert report.good and report.counts["ended left"] > CALLERS / 2

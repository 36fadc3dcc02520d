"""A replica stands still for longer than its holds live, and wakes up: what it has to say is posted, once."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.judge import judged
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
HABITS = Habits(length=(80, 160), rate=(7, 12), chunk=2, leaves=0.1, fails=0.03, keyed=0.2)
BOTH_WORDS = """
SELECT count(*) FILTER (WHERE rev = 'final') AS finals, count(*) FILTER (WHERE rev = 'late') AS lates FROM charges
WHERE request_id IN (SELECT request_id FROM charges WHERE rev = 'provisional')
"""


async def test_a_woken_replica_posts_the_difference(open_town: TownOpener, seed: int) -> None:
    # It wakes up in time to go on: nothing else may end its calls.
    async with open_town(TIMEOUTS__TOTAL_S="60", TIMEOUTS__IDLE_S="60") as town:
        await _frozen(town, seed, seconds=22)
        report = await judged(town, "frozen for 22 s (a hold lives 15 s) and woken")
        (words,) = await town.within.rows(BOTH_WORDS)
    assert report.good and words["finals"] > 0


async def test_a_replica_woken_after_the_horizon_says_a_late_word(open_town: TownOpener, seed: int) -> None:
    settings = {"BANK__HOLD_TTL_S": "6", "TIMEOUTS__TOTAL_S": "16", "TIMEOUTS__IDLE_S": "16"}
    async with open_town(**settings) as town:
        await _frozen(town, seed, seconds=32)
        report = await judged(town, "frozen beyond the horizon (22 s) and woken")
        (words,) = await town.within.rows(BOTH_WORDS)
    assert report.good and words["lates"] > 0


async def _frozen(town: Town, seed: int, seconds: float) -> None:
    people, sleeper = await town.settle_in(20), town.replicas[0]
    until = time.monotonic() + 5 + seconds
    crowd = Crowd(people, HABITS, seed)
    calling = asyncio.create_task(keep(town.swarm, crowd, 60, lambda: time.monotonic() > until))
    await asyncio.sleep(5)
    sleeper.freeze()
    await asyncio.sleep(seconds)
    sleeper.wake()
    await calling

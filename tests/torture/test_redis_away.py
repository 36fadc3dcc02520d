"""Redis forgets everything every five seconds, or is away for twenty: money does not notice."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.judge import judged
from tests.torture.report import Report
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
HABITS = Habits(length=(30, 90), rate=(8, 14), chunk=2, leaves=0.1, fails=0.03, keyed=0.3)
CATALOG = """
[[tiers]]
name = "counted"
concurrency = 200
windows = [{ limit = 100000, of = "requests", per = "hour" }, { limit = 100000000, of = "tokens", per = "hour" }]
"""


async def test_redis_is_emptied_every_five_seconds(open_town: TownOpener, seed: int) -> None:
    async with open_town(catalog=CATALOG) as town:
        calling = await _calling(town, seed, 32)
        for _ in range(6):
            await asyncio.sleep(5)
            await town.redis.flushdb()
        await calling
        report = Report("Redis emptied every 5 s")
        _all_served(town, report)
        assert (await judged(town, report, forgetful=True)).good


@pytest.mark.parametrize("way", ["refuse", "hole"])
async def test_redis_is_away_for_twenty_seconds(open_town: TownOpener, seed: int, way: str) -> None:
    async with open_town(catalog=CATALOG) as town:
        calling = await _calling(town, seed, 35)
        await asyncio.sleep(5)
        await town.redis_wire.order(way)
        await asyncio.sleep(5)
        assert [await _degraded(town, number) for number in range(3)] == [1, 1, 1]
        await asyncio.sleep(15)
        await town.redis_wire.order("pass")
        await asyncio.sleep(5)
        assert [await _degraded(town, number) for number in range(3)] == [0, 0, 0]
        await calling
        report = Report(f"Redis's wire, {way}: 20 s")
        _all_served(town, report)
        assert (await judged(town, report, forgetful=True)).good


async def _calling(town: Town, seed: int, seconds: float) -> asyncio.Task[None]:
    people, end = await town.settle_in(20, tier="counted"), time.monotonic() + seconds
    crowd = Crowd(people, HABITS, seed)
    return asyncio.create_task(keep(town.swarm, crowd, 60, lambda: time.monotonic() > end))


async def _degraded(town: Town, number: int) -> float:
    return (await town.metrics(number))["farebox_limiter_degraded"]


def _all_served(town: Town, report: Report) -> None:
    """No call is refused because Redis is away, but by the backend's own failure."""
    for heard in town.swarm.heard:
        if heard.status not in (0, 200, 502, 504) or (heard.status == 0 and heard.how != "left"):
            about = f"call {heard.order.plan.nonce}: {heard.status} {heard.error} {heard.how}"
            report.broke("status", about)

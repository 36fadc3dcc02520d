"""Bursts at three replicas on one Redis: exactly the limit passes, of requests, of tokens and of calls at once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.house import Caller
from tests.torture.judge import judged
from tests.torture.plan import Plan
from tests.torture.report import Report
from tests.torture.swarm import Order
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
LIMIT, AT_ONCE, BURST = 25, 7, 90
CATALOG = f"""
[[tiers]]
name = "requests"
windows = [{{ limit = {LIMIT}, of = "requests", per = "hour" }}]

[[tiers]]
name = "at-once"
concurrency = {AT_ONCE}

[[tiers]]
name = "both"
concurrency = 1000
windows = [{{ limit = {LIMIT}, of = "requests", per = "hour" }}, {{ limit = 40, of = "requests", per = "day" }}]
"""


@pytest.mark.parametrize("tier", ["requests", "both"])
async def test_exactly_the_limit_passes(open_town: TownOpener, seed: int, tier: str) -> None:
    async with open_town(catalog=CATALOG) as town:
        report = Report(f"bursts of {BURST} calls against {LIMIT} an hour, tier {tier}")
        for ada in await town.settle_in(8, tier=tier):
            told = await _burst(town, ada, f"{seed}{ada.user.id}", length=3)
            report.bound("window", told[200] / LIMIT, 1)
            assert told == {200: LIMIT, 429: BURST - LIMIT}
        assert (await judged(town, report)).good


async def test_exactly_so_many_run_at_once(open_town: TownOpener, seed: int) -> None:
    async with open_town(catalog=CATALOG) as town:
        report = Report(f"bursts of {BURST} calls of which {AT_ONCE} may run at once")
        for ada in await town.settle_in(4, tier="at-once"):
            told = await _burst(town, ada, f"{seed}{ada.user.id}", length=60)
            report.bound("window", told[200] / AT_ONCE, 1)
            assert told == {200: AT_ONCE, 429: BURST - AT_ONCE}
        assert (await judged(town, report)).good


async def _burst(town: Town, ada: Caller, name: str, length: int) -> Counter[int]:
    """All at once, over all replicas: how many got which status. All have been decided before the first one ends."""
    orders = [Order(ada, Plan(f"{name}n{n}", rate=10, length=length)) for n in range(BURST)]
    return Counter(heard.status for heard in await asyncio.gather(*map(town.swarm.call, orders)))

"""The bank goes away for twenty seconds, in three ways, while streams run: they end well and are charged afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.engines import Postgres
from tests.torture.judge import judged
from tests.torture.report import Report
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
AWAY_S, STREAMS = 20.0, 60
_ASKED_S = 11.0
"""So long may a call ask a bank that does not answer: twice the time of a statement. It may be back by then."""
HABITS = Habits(length=(60, 120), rate=(8, 12), chunk=2, leaves=0.1, fails=0.03)


@pytest.mark.parametrize("way", ["refuse", "hole"])
async def test_the_wire_to_the_bank_is_cut(open_town: TownOpener, seed: int, way: str) -> None:
    async with open_town() as town:
        async with _crowd(town, seed), town.without_bank(way):
            await asyncio.sleep(AWAY_S)
        assert await _ends_well(town, f"the bank's wire, {way}: 20 s")


async def test_the_server_crashes(open_town: TownOpener, seed: int, postgres: Postgres) -> None:
    async with open_town() as town:
        async with _crowd(town, seed):
            begun = time.monotonic()
            await postgres.crash()
            await asyncio.sleep(AWAY_S)
            await postgres.start()
            town.dark.append((begun, time.monotonic()))
            await town.within.engine.dispose()
        assert await _ends_well(town, "Postgres crashed, and was started after 20 s")


@asynccontextmanager
async def _crowd(town: Town, seed: int) -> AsyncIterator[None]:
    """Callers, from five seconds before the block until ten after it."""
    people = await town.settle_in(20)
    over = asyncio.Event()
    calling = asyncio.create_task(keep(town.swarm, Crowd(people, HABITS, seed), STREAMS, over.is_set))
    await asyncio.sleep(5)
    yield
    await asyncio.sleep(10)
    over.set()
    await calling


async def _ends_well(town: Town, name: str) -> bool:
    report = Report(name)
    for begun, ended in town.dark:
        _streams(town, begun, ended, report)
    return (await judged(town, report)).good


def _streams(town: Town, begun: float, ended: float, report: Report) -> None:
    """What ran when the bank went away came to its own end; what came then was told to wait."""
    for heard in town.swarm.heard:
        plan, about = heard.order.plan, f"call {heard.order.plan.nonce}: {heard.status} {heard.error} {heard.how}"
        if heard.status == 200 and heard.begun < begun < heard.ended and heard.how != "left" and plan.fail == "none":
            report.counted("streams that ran on without the bank")
            if not heard.done or heard.error:
                report.broke("lost_streams", about)
        if begun + 1 < heard.begun < ended - _ASKED_S and heard.how != "left":
            report.counted("calls made without the bank")
            if (heard.status, heard.error, heard.retry_after) != (503, "ledger_unavailable", True):
                report.broke("status", about)

"""One replica after another is told to stop and started again: no stream is lost, and all is posted before it exits."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.judge import judged
from tests.torture.report import Report
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
HABITS = Habits(length=(40, 120), rate=(8, 12), chunk=2, leaves=0.05, tries=5)
_NOT_POSTED = "SELECT count(*) AS n FROM holds WHERE state = 'open' AND split_part(owner, '-', -2) = :pid"


async def test_a_rolling_restart_loses_no_stream(open_town: TownOpener, seed: int) -> None:
    async with open_town() as town:
        report, over = Report("rolling restart under 60 streams"), asyncio.Event()
        crowd = Crowd(await town.settle_in(20), HABITS, seed)
        calling = asyncio.create_task(keep(town.swarm, crowd, 60, over.is_set))
        for each in town.replicas:
            await asyncio.sleep(3)
            pid = each.pid
            each.term()
            report.bound("exit", await each.ended(), 0)
            await _posted(town, pid, report)
            await each.start()
        over.set()
        await calling
        _all_whole(town, report)
        assert (await judged(town, report)).good


@pytest.mark.parametrize("hurry", ["a second signal", "the deadline"])
async def test_what_does_not_wait_for_callers_still_posts_everything(
    open_town: TownOpener, seed: int, hurry: str
) -> None:
    async with open_town(DRAIN_TIMEOUT_S="2" if hurry == "the deadline" else "300") as town:
        report, over = Report(f"stopped by {hurry} under 60 streams"), asyncio.Event()
        crowd = Crowd(await town.settle_in(20), HABITS, seed)
        calling = asyncio.create_task(keep(town.swarm, crowd, 60, over.is_set))
        for each in town.replicas:
            await asyncio.sleep(4)
            pid, begun = each.pid, time.monotonic()
            each.term()
            await asyncio.sleep(0.5)
            if hurry == "a second signal":
                each.term()
            report.bound("exit", await each.ended(), 0)
            report.worst("stop_s", time.monotonic() - begun)
            await _posted(town, pid, report)
            await each.start()
        over.set()
        await calling
        drained = sum(1 for heard in town.swarm.heard if heard.status == 200 and heard.error == "draining")
        report.counted("streams told that the service stops", drained)
        assert (await judged(town, report)).good and drained


async def _posted(town: Town, pid: int, report: Report) -> None:
    """Nothing of a process that has exited is still open, or on its disk."""
    (open_holds,) = await town.within.rows(_NOT_POSTED, pid=str(pid))
    report.bound("unposted", open_holds["n"], 0)
    report.bound("spool", len(town.spooled()), 0)


def _all_whole(town: Town, report: Report) -> None:
    for heard in town.swarm.heard:
        if heard.status == 200 and heard.how != "left" and (not heard.done or heard.error):
            report.broke("lost_streams", f"call {heard.order.plan.nonce}: {heard.error} {heard.how}")
        if heard.status == 503 and heard.error != "draining":
            report.broke("status", f"call {heard.order.plan.nonce}: {heard.error}")

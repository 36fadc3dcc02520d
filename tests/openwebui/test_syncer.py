"""When syncs happen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from openwebui.report import Outcome, Report
from openwebui.syncer import Syncer


class Counted:
    """A sync that only counts; ``outcomes`` are what it comes to, the last one for ever."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.runs = 0
        self._outcomes = outcomes or ("done",)

    async def __call__(self) -> Report:
        self.runs += 1
        return Report(datetime.now(UTC), self._outcomes[min(self.runs, len(self._outcomes)) - 1])

    async def reach(self, runs: int) -> None:
        async with asyncio.timeout(30):
            while self.runs < runs:
                await asyncio.sleep(0.005)


async def test_it_syncs_by_itself_again_and_again() -> None:
    counted = Counted()
    syncer = Syncer(counted, every_s=0.01, rest_s=0)
    syncer.start()
    await counted.reach(3)
    await syncer.aclose()


async def test_without_a_period_it_syncs_when_nudged_and_many_nudges_are_one() -> None:
    counted = Counted()
    syncer = Syncer(counted, every_s=0, soon_s=0.05, rest_s=0)
    syncer.start()
    for _ in range(10):
        syncer.nudge()
    await counted.reach(1)
    await asyncio.sleep(0.2)
    assert counted.runs == 1
    syncer.nudge()
    await counted.reach(2)
    await syncer.aclose()


async def test_who_finds_another_sync_running_comes_again() -> None:
    counted = Counted("busy", "done")
    syncer = Syncer(counted, every_s=0, soon_s=0, rest_s=0)
    syncer.start()
    syncer.nudge()
    await counted.reach(2)
    await syncer.aclose()


async def test_what_another_replica_did_lately_is_not_done_again_unless_somebody_nudges() -> None:
    counted, asked = Counted(), 0

    async def lately() -> bool:
        nonlocal asked
        asked += 1
        return True

    syncer = Syncer(counted, every_s=0.01, lately=lately, soon_s=0, rest_s=0)
    syncer.start()
    async with asyncio.timeout(30):
        while asked < 3:
            await asyncio.sleep(0.005)
    assert counted.runs == 0
    syncer.nudge()
    await counted.reach(1)
    await syncer.aclose()


async def test_a_defect_in_a_sync_ends_no_other() -> None:
    runs = 0

    async def broken() -> Report:
        nonlocal runs
        runs += 1
        raise RuntimeError("a defect")

    syncer = Syncer(broken, every_s=0.01, rest_s=0)
    syncer.start()
    async with asyncio.timeout(30):
        while runs < 2:
            await asyncio.sleep(0.005)
    await syncer.aclose()


async def test_it_is_closed_without_having_been_started() -> None:
    await Syncer(Counted(), every_s=0).aclose()

"""The wire: lost questions, lost answers, another end that is away or slow."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ledger.store import BankUnavailable
from simulation.link import Weather, Wire, at_once, bank_away
from simulation.loop import VirtualLoop, running
from simulation.trace import Trace


class Far:
    """Counts what is done at the other end of a wire whose weather a test sets."""

    def __init__(self, chance: Random | None = None) -> None:
        self.loop = VirtualLoop(Random(0))
        self.weather, self.done = Weather(), 0
        self.wire = Wire(
            "bank", self.loop, chance or Random(0), self.weather, Trace(self.loop), bank_away, timeout_s=5.0
        )

    async def work(self) -> int:
        self.done += 1
        return self.done

    async def _asked(self) -> int:
        return await self.wire.ask("work", (), self.work)

    def asked(self) -> int:
        async def main() -> int:
            try:
                return await self._asked()
            finally:
                await asyncio.sleep(20)

        with running(self.loop):
            return self.loop.run_until_complete(main())


def test_in_fine_weather_a_question_is_answered() -> None:
    assert Far().asked() == 1


def test_who_is_away_does_nothing() -> None:
    far = Far()
    far.weather.away = True
    with pytest.raises(BankUnavailable):
        far.asked()
    assert far.done == 0


def test_a_lost_answer_leaves_it_done_and_a_lost_question_undone() -> None:
    done = set()
    for seed in range(12):
        far = Far(Random(seed))
        far.weather.lost = 0.6
        try:
            far.asked()
        except BankUnavailable:
            done.add(far.done)
    assert done == {0, 1}


def test_what_comes_late_is_done_when_its_asker_has_given_up() -> None:
    class Slow(Random):
        def random(self) -> float:
            return 1.0

    far, late = Far(Slow(0)), []
    far.weather.slow_s = 8.0
    far.wire.on_late = lambda op, args: late.append(op)
    with pytest.raises(BankUnavailable):
        far.asked()
    assert (far.done, late) == (1, ["work"])


def test_what_waits_is_no_work_of_one_instant() -> None:
    with pytest.raises(AssertionError):
        at_once(asyncio.sleep(0))

"""While a run lasts, the clocks the house reads are the loop's."""

from __future__ import annotations

import os
import time
from datetime import datetime
from random import Random

from ledger import teller
from ledger.ids import instant_of, uuid7
from simulation.clock import BEGINS, virtual
from simulation.loop import ACTOR, Actor, VirtualLoop, running


def test_clocks_and_chance_are_virtual_and_given_back() -> None:
    loop, real = VirtualLoop(Random(0)), (time.monotonic, os.urandom, vars(teller)["datetime"])
    with running(loop), virtual(loop, Random(5)):
        loop.now = 90.0
        first = uuid7()
        assert (time.monotonic(), time.time()) == (90.0, BEGINS + 90)
        assert instant_of(first).timestamp() == BEGINS + 90
        assert type(vars(teller)["datetime"].now()) is datetime
    assert (time.monotonic, os.urandom, vars(teller)["datetime"]) == real
    again = VirtualLoop(Random(0))
    with running(again), virtual(again, Random(5)):
        again.now = 90.0
        assert uuid7() == first


def test_a_wrong_wall_clock_is_its_actors_alone() -> None:
    loop, late = VirtualLoop(Random(0)), Actor("late")
    late.wall_offset_s = -5.0
    with running(loop), virtual(loop, Random(0)):
        token = ACTOR.set(late)
        assert (time.time(), time.monotonic()) == (BEGINS - 5, 0.0)
        ACTOR.reset(token)
        assert time.time() == BEGINS

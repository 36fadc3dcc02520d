"""One run of a seed, and what a test looks at in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from simulation.house import Common
from simulation.scenario import Fault, draw
from simulation.verdict import Verdict, judge
from simulation.world import World, run_scenario

T = TypeVar("T")


@cache
def common() -> Common:
    return Common()


def run_of(seed: int, faults: tuple[Fault, ...], look: Callable[[World], T]) -> T:
    return run_scenario(draw(seed, faults), common(), look)


def verdict_of(seed: int, faults: tuple[Fault, ...]) -> Verdict:
    return run_of(seed, faults, judge)

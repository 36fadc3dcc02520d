"""A run is the same each time its seed is run, and the money protocol keeps its promises in a good number of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from simulation.scenario import FAULTS
from tests.simulation.runs import verdict_of

CLEAN = range(150)


@pytest.mark.parametrize("part", range(5))
def test_every_promise_is_kept_under_all_faults(part: int) -> None:
    verdicts = [verdict_of(seed, FAULTS) for seed in CLEAN if seed % 5 == part]
    assert [(verdict.seed, verdict.broken) for verdict in verdicts if verdict.broken] == []


def test_a_seed_replays_to_the_letter_also_in_another_process() -> None:
    here = [verdict_of(seed, FAULTS).hash for seed in (4, 5)]
    script = (
        "from tests.simulation.runs import verdict_of; from simulation.scenario import FAULTS; "
        "print(*[verdict_of(seed, FAULTS).hash for seed in (4, 5)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == here == [verdict_of(seed, FAULTS).hash for seed in (4, 5)]

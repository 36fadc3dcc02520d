"""Each rule of the protocol, broken, is caught: within a few seeds, and by name in the runner."""

from __future__ import annotations

import pytest

from simulation.mutants import MUTANTS, broken_by
from simulation.runner import report, run_seeds, work_of
from tests.simulation.runs import verdict_of

WITHIN = 60
"""Seeds in which a mutant must show itself."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_caught(name: str) -> None:
    faults = MUTANTS[name].faults
    with broken_by(name):
        caught = next((seed for seed in range(WITHIN) if verdict_of(seed, faults).broken), None)
    assert caught is not None
    assert verdict_of(caught, faults).broken == []  # by this rule alone


def test_the_runner_reports_a_mutant_and_how_to_see_it() -> None:
    done = report(work := work_of("", "sum-of-usage"), run_seeds(range(4), work))
    assert not done.holds
    assert any("--mutant sum-of-usage" in line for line in done.lines())

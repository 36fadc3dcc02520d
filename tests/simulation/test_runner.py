"""The command's words, its table, and its two ways of running."""

from __future__ import annotations

import pytest

from simulation.runner import Work, faults_of, report, run_seeds, story, work_of
from simulation.scenario import FAULTS


def test_faults_are_named_all_or_one_by_one() -> None:
    assert faults_of("all") == FAULTS
    assert faults_of("bank, kill") == ("kill", "bank")
    assert faults_of("none") == ()
    with pytest.raises(ValueError, match="earthquake"):
        faults_of("earthquake")
    with pytest.raises(ValueError, match="no-such"):
        work_of("", "no-such")


def test_several_processes_find_what_one_finds() -> None:
    work = Work(("kill",))
    alone, together = (sorted(each.hash for each in run_seeds(range(4), work, jobs)) for jobs in (1, 2))
    assert alone == together


def test_a_report_is_a_table_and_a_sentence() -> None:
    lines = list(report(work := Work(("kill", "bank")), run_seeds(range(2), work)).lines())
    assert lines[0] == "2 runs, faults: kill, bank"
    assert lines[-1] == "every promise held"


def test_a_story_is_told_in_virtual_time() -> None:
    verdict, lines = story(0, Work(FAULTS))
    assert verdict.broken == []
    assert any("healed" in line for line in lines)

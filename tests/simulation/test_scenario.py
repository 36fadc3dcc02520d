"""Scenarios are drawn from their seed alone."""

from __future__ import annotations

from simulation.scenario import FAULTS, HEAL_S, draw


def test_a_seed_draws_the_same_each_time_and_another_another() -> None:
    assert draw(5, FAULTS) == draw(5, FAULTS) != draw(6, FAULTS)


def test_every_kind_of_fault_comes_up_and_ends_before_all_heal() -> None:
    events = [event for seed in range(60) for event in draw(seed, FAULTS).events]
    faults = [event for event in events if event.kind not in ("top-up", "deduct", "refund", "tier")]
    assert {event.kind for event in faults} >= {"kill", "stop", "drain", "flush", "rollback", "clock", "bank away"}
    lasting = [event for event in faults if event.kind.startswith(("bank", "redis"))]
    assert all(event.at_s + event.for_s <= HEAL_S + 1e-6 for event in lasting)


def test_only_the_faults_that_are_asked_for_come() -> None:
    kinds = {event.kind for seed in range(20) for event in draw(seed, ("kill",)).events}
    assert kinds <= {"kill", "top-up", "deduct", "refund", "tier"}

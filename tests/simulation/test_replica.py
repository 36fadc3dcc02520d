"""A simulated process: started, drained and started again, killed with its connections."""

from __future__ import annotations

from simulation.world import World
from tests.simulation.runs import run_of


def look(world: World) -> tuple[int, list[str]]:
    lines = list(world.trace.lines())
    return sum(" up" in line for line in lines), [line.split()[2] for line in lines]


def test_processes_that_end_are_started_again() -> None:
    ups, words = run_of(3, ("kill", "drain"), look)
    ends = words.count("kill") + words.count("exit")
    assert ends and ups >= ends + 2


def test_without_faults_each_starts_once() -> None:
    assert run_of(3, (), lambda world: (look(world)[0], len(world.replicas))) in ((2, 2), (3, 3))


def test_a_kill_breaks_the_connections_it_had() -> None:
    def broken(world: World) -> int:
        calls = [call for call in world.calls if call.broken_at is not None]
        assert all(call.ended_at == call.broken_at for call in calls)
        return len(calls)

    assert sum(run_of(seed, ("kill",), broken) for seed in range(8)) > 0

"""A verdict tells what a run that was tampered with broke."""

from __future__ import annotations

from simulation.verdict import FIGURES, Verdict, judge, merged
from simulation.world import World
from tests.simulation.runs import run_of, verdict_of


def test_a_clean_run_is_within_every_bound() -> None:
    verdict = verdict_of(1, ())
    assert verdict.broken == [] and verdict.figures.keys() <= FIGURES.keys()


def test_bytes_nobody_charged_are_found() -> None:
    def look(world: World) -> Verdict:
        call = next(call for call in world.calls if call.answered)
        call.received.append((world.loop.now, b'{"content":"abc abc abc "}'))
        return judge(world)

    assert any(line.startswith("under: 3 above 0") for line in run_of(1, (), look).broken)


def test_money_nobody_sent_tokens_for_is_found() -> None:
    def look(world: World) -> Verdict:
        for sent in world.backend.record:
            sent.pieces.clear()
        return judge(world)

    assert any(line.startswith("over: ") for line in run_of(1, (), look).broken)


def test_of_many_runs_the_worst_is_kept_with_its_seed() -> None:
    runs = [Verdict(seed, "", figures={"under_kill": worst}) for seed, worst in ((1, 3.0), (2, 9.0), (3, 4.0))]
    figure = merged(runs)["under_kill"]
    assert (figure.worst, figure.seed) == (9.0, 2)

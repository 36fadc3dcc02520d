"""Many seeds over the cores: their verdicts as they come, the worst figures beside their bounds, what failed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from simulation.house import Common
from simulation.mutants import MUTANTS, broken_by
from simulation.scenario import FAULTS, Fault, draw
from simulation.verdict import Figure, Verdict, judge, merged
from simulation.world import World, run_scenario

_AT_ONCE = 20


@dataclass(frozen=True)
class Work:
    """What to run: seeds, faults, and the rule that is broken, if any."""

    faults: tuple[Fault, ...] = FAULTS
    mutant: str = ""


def faults_of(words: str) -> tuple[Fault, ...]:
    """``all``, ``none``, or names joined by commas. Raises ValueError, naming those that exist."""
    if words == "all":
        return FAULTS
    named = [word.strip() for word in words.split(",") if word.strip() and words != "none"]
    unknown = [word for word in named if word not in FAULTS]
    if unknown:
        raise ValueError(f"no fault is called {', '.join(unknown)}; there are {', '.join(FAULTS)}, and all")
    return tuple(fault for fault in FAULTS if fault in named)


def work_of(faults: str, mutant: str) -> Work:
    """A mutant without faults of its own choice has those under which it shows soonest. Raises ValueError."""
    if mutant and mutant not in MUTANTS:
        raise ValueError(f"no mutant is called {mutant}; there are {', '.join(MUTANTS)}")
    if mutant and not faults:
        return Work(MUTANTS[mutant].faults, mutant)
    return Work(faults_of(faults or "all"), mutant)


def story(seed: int, work: Work) -> tuple[Verdict, list[str]]:
    """One run, and everything that happened in it."""

    def told(world: World) -> tuple[Verdict, list[str]]:
        return judge(world), list(world.trace.lines())

    with broken_by(work.mutant) if work.mutant else nullcontext():
        return run_scenario(draw(seed, work.faults), Common(), told)


def run_seeds(seeds: Sequence[int], work: Work, jobs: int = 1) -> Iterator[Verdict]:
    """The verdicts, as they come."""
    if jobs == 1:
        yield from _some(seeds, work)
        return
    parts = [(seeds[at : at + _AT_ONCE], work) for at in range(0, len(seeds), _AT_ONCE)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for verdicts in pool.imap_unordered(_part, parts):
            yield from verdicts


def _part(part: tuple[Sequence[int], Work]) -> list[Verdict]:
    return list(_some(*part))


def _some(seeds: Iterable[int], work: Work) -> Iterator[Verdict]:
    common = Common()
    with broken_by(work.mutant) if work.mutant else nullcontext():
        for seed in seeds:
            yield run_scenario(draw(seed, work.faults), common, judge)


@dataclass(frozen=True)
class Report:
    """What many runs have shown."""

    work: Work
    runs: int
    failed: tuple[Verdict, ...]
    figures: dict[str, Figure]

    @property
    def holds(self) -> bool:
        return not self.failed

    def lines(self) -> Iterator[str]:
        """The table, then the failed seeds and how to see them again."""
        width = max(len(figure.says) for figure in self.figures.values())
        yield f"{self.runs} runs, faults: {', '.join(self.work.faults) or 'none'}"
        for figure in self.figures.values():
            seed = f"seed {figure.seed}" if figure.seed >= 0 and figure.worst else ""
            yield f"  {figure.says:{width}}  {figure.worst:10g} {figure.unit}, bound {figure.bound}  {seed}".rstrip()
        for verdict in self.failed[:10]:
            yield f"seed {verdict.seed}: {'; '.join(verdict.broken[:3])}"
            yield f"  again: farebox simulate --seed {verdict.seed} --trace {self._words()}".rstrip()
        yield f"{len(self.failed)} of {self.runs} runs broke a promise" if self.failed else "every promise held"

    def _words(self) -> str:
        faults = f"--faults {','.join(self.work.faults) or 'none'}"
        return f"{faults} --mutant {self.work.mutant}" if self.work.mutant else faults


def report(work: Work, verdicts: Iterable[Verdict], told: Callable[[int], object] = lambda count: None) -> Report:
    """The sum of the runs; ``told`` hears of each."""
    seen = []
    for verdict in verdicts:
        seen.append(verdict)
        told(1)
    failed = tuple(sorted((verdict for verdict in seen if verdict.broken), key=lambda verdict: verdict.seed))
    return Report(work, len(seen), failed, merged(seen))

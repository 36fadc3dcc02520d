"""Rounds: everybody takes a turn in each (A B C A B C …), so that what slows the machine down slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.figures import Figures
from bench.machine import BenchError, Spoilt
from bench.measures import Measure, Scene, Skip


@dataclass(slots=True)
class Measured:
    """A measure and what it gave: for each round everybody's figures, by name; or why it was not taken. ``failed``: who
    could not be measured, in some round or in all, and why."""

    measure: Measure
    rounds: list[dict[str, Figures]] = field(default_factory=list)
    skipped: str = ""
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Everybody who was measured, in the order of their turns."""
        return list(dict.fromkeys(name for each in self.rounds for name in each))

    def runs(self, name: str) -> list[Figures]:
        """What somebody's runs gave, round by round."""
        return [each[name] for each in self.rounds if name in each]


Told = Callable[[str], None]


def take(measure: Measure, scene: Scene, rounds: int, told: Told) -> Measured:
    """Take one measure in so many rounds; ``told`` hears what is under way. Raises Spoilt."""
    measured = Measured(measure)
    try:
        with measure.open(scene) as runs:
            for number in range(min(rounds, measure.rounds_max)):
                each: dict[str, Figures] = {}
                measured.rounds.append(each)
                for name, run in runs.items():
                    told(f"{measure.name}: round {number + 1}, {name}")
                    try:
                        each[name] = run()
                    except Spoilt:
                        raise
                    except BenchError as error:  # one that cannot keep up shall not end everybody's run
                        measured.failed[name] = str(error)
    except Spoilt:
        raise
    except (Skip, BenchError) as reason:
        measured.skipped = str(reason)
    return measured


def take_all(measures: Sequence[Measure], scene: Scene, rounds: int, told: Told) -> list[Measured]:
    """Take these measures, one after the other."""
    return [take(measure, scene, rounds, told) for measure in measures]

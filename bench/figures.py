"""What is made of measured numbers: medians, ratios round by round, and the search for the largest load that holds.

Pure: no clock, no process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

Figures = dict[str, float]
"""What one run gave, by name; a name ends in its unit (`_s`, `_ms`, `_us`, `_kib`) or is a count."""

Round = Mapping[str, Figures]
"""What everyone measured gave in one round, by their names."""


def medians(runs: Sequence[Figures]) -> Figures:
    """Of each figure its median over the runs that have it."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: statistics.median(run[name] for run in runs if name in run) for name in names}


def spread(values: Iterable[float]) -> tuple[float, float]:
    """The least and the greatest."""
    kept = list(values)
    return min(kept), max(kept)


def ratio(rounds: Sequence[Round], figure: str, of: str, to: str) -> float | None:
    """How many times ``to``'s figure that of ``of`` is: the median of the ratios within each round, so that what
    slows a whole round down does not count. None where no round has both, or the lower one is always 0."""
    pairs = [
        (each[of][figure], each[to][figure]) for each in rounds if _has(each, of, figure) and _has(each, to, figure)
    ]
    ratios = [one / other for one, other in pairs if other]
    return statistics.median(ratios) if ratios else None


def difference(rounds: Sequence[Round], figure: str, of: str, to: str) -> float | None:
    """How much more ``of`` has of the figure than ``to``: the median of the differences within each round."""
    pairs = [
        (each[of][figure], each[to][figure]) for each in rounds if _has(each, of, figure) and _has(each, to, figure)
    ]
    return statistics.median(one - other for one, other in pairs) if pairs else None


def _has(each: Round, name: str, figure: str) -> bool:
    return name in each and figure in each[name]


def largest(holds: Callable[[int], bool], *, start: int, limit: int, within: float = 0.05) -> int:
    """The largest load that holds, found by doubling and halving to within this part of it; 0 where not even 1 does.

    ``holds`` is asked for at most ``limit``, and is taken to hold for everything below what held.
    """
    good, bad = 0, start
    while bad <= limit and holds(bad):
        good, bad = bad, bad * 2 if bad * 2 <= limit or bad == limit else limit
    if good == limit:
        return good
    while bad - good > max(1, int(good * within)):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good

"""Made-up results of a run, for what works on results."""

from __future__ import annotations

from bench.figures import Figures
from bench.menu import MEASURES
from bench.rounds import Measured


def measured(name: str, *rounds: dict[str, Figures]) -> Measured:
    """A measure that gave these rounds."""
    return Measured(next(each for each in MEASURES if each.name == name), list(rounds))


def call(rate: float, cpu_us: float, **more: float) -> Figures:
    """What a run of calls gave."""
    return {"calls_per_s": rate, "cpu_us_per_call": cpu_us, "foreign_busy": 0.02, "bad": 0, **more}


CALLS = measured(
    "calls",
    {
        "direct": call(80_000, 6),
        "farebox": call(4_000, 200),
        "bare relay": call(9_000, 90),
        "LiteLLM bare": call(90, 9e3),
    },
    {
        "direct": call(40_000, 7),
        "farebox": call(2_000, 210),
        "bare relay": call(5_000, 95),
        "LiteLLM bare": call(50, 9e3),
    },
    {
        "direct": call(81_000, 6),
        "farebox": call(4_100, 190),
        "bare relay": call(9_100, 92),
        "LiteLLM bare": call(95, 9e3),
    },
)

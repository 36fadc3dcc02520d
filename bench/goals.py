"""What Farebox is to reach, beside what was measured: the table that `farebox bench` ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.figures import difference, medians, ratio
from bench.rounds import Measured

LITELLM, PORTKEY, NGINX, RELAY = "LiteLLM bare", "Portkey", "nginx", "bare relay"
Known = Mapping[str, Measured]
Value = Callable[[Known], float | None]


@dataclass(frozen=True, slots=True)
class Part:
    """One figure of a goal: how it is worked out, its unit, and its bounds (None: there is none)."""

    value: Value
    unit: str
    reach: float | None
    stretch: float | None
    at_least: bool

    def verdict(self, value: float) -> str:
        """How far it came: `stretch`, `reach`, `short`."""
        if self._within(value, self.stretch) and self.stretch is not None:
            return "stretch"
        return "reach" if self._within(value, self.reach) else "short"

    def _within(self, value: float, bound: float | None) -> bool:
        return bound is None or (value >= bound if self.at_least else value <= bound)

    def bound(self, which: float | None) -> str:
        """A bound as the table has it."""
        return "" if which is None else f"{'≥' if self.at_least else '≤'} {which:,g}{self.unit}".replace(",", " ")


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table."""

    says: str
    parts: tuple[Part, ...]

    def line(self, known: Known) -> list[str]:
        """What it says, its bounds, what was measured and how far that is."""
        values = [(part, part.value(known)) for part in self.parts]
        measured = [f"{_rounded(value)}{part.unit}" if value is not None else "–" for part, value in values]
        verdicts = [part.verdict(value) for part, value in values if value is not None]
        return [self.says, self._bounds("reach"), self._bounds("stretch"), ", ".join(measured), _worst(verdicts)]

    def _bounds(self, which: str) -> str:
        return ", ".join(filter(None, (part.bound(getattr(part, which)) for part in self.parts)))


def _rounded(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:.3g}"


def _worst(verdicts: Sequence[str]) -> str:
    return next((each for each in ("short", "reach", "stretch") if each in verdicts), "")


def _times(measure: str, figure: str, of: str, to: str) -> Value:
    return lambda known: ratio(known[measure].rounds, figure, of, to) if measure in known else None


def _more(measure: str, figure: str, of: str, to: str) -> Value:
    return lambda known: difference(known[measure].rounds, figure, of, to) if measure in known else None


def _median(measure: str, figure: str, of: str = "farebox") -> Value:
    return lambda known: medians(known[measure].runs(of)).get(figure) if measure in known else None


_CPU = "cpu_us_per_call"


def _line(says: str, *parts: Part) -> Goal:
    return Goal(says, parts)


GOALS = (
    _line("calls/s", Part(_times("calls", "calls_per_s", "farebox", LITELLM), f" × {LITELLM}", 35, 65, True)),
    _line("calls/s", Part(_times("calls", "calls_per_s", "farebox", PORTKEY), f" × {PORTKEY}", 4, 8, True)),
    _line("CPU a call beyond the bare relay", Part(_more("calls", _CPU, "farebox", RELAY), " µs", 200, 100, False)),
    _line(
        "burst chunks/s",
        Part(_times("burst", "chunks_per_s", "farebox", LITELLM), f" × {LITELLM}", 60, None, True),
        Part(_times("burst", "chunks_per_s", "farebox", NGINX), f" × {NGINX}", 0.5, 0.8, True),
    ),
    _line(
        "CPU a paced chunk",
        Part(_times("paced", "cpu_us_per_chunk", "farebox", NGINX), f" × {NGINX}", 2.2, 1.5, False),
    ),
    _line("paced streams held, delay p99 < 50 ms", Part(_median("held", "streams"), "", 1000, 1800, True)),
    _line(
        "first chunk beyond direct, p50, p99",
        Part(_more("first-byte", "first_p50_ms", "farebox", "direct"), " ms", 2, 1, False),
        Part(_more("first-byte", "first_p99_ms", "farebox", "direct"), " ms", 8, None, False),
    ),
    _line(
        "memory of an open stream, of the process",
        Part(_median("memory", "kib_per_stream"), " KiB", 40, 20, False),
        Part(_median("memory", "process_mib"), " MiB", 200, None, False),
    ),
    _line("one wallet", Part(_times("hot-wallet", "calls_per_s", "one wallet", "64 wallets"), " × 64", 0.5, 0.8, True)),
    _line(
        "a call on a grown ledger",
        Part(_times("ledger-growth", "cost_us_per_call", "grown", "empty"), " × empty", 1.1, None, False),
    ),
    _line(
        "two processes, two cores",
        Part(_times("workers", "calls_per_s", "two processes", "one process"), " × one", 1.7, None, True),
    ),
)


def table(measured: Sequence[Measured]) -> Iterator[str]:
    """The goals as a table for a page: measure, reach, stretch, measured."""
    known = {each.measure.name: each for each in measured if not each.skipped}
    yield "| measure | reach | stretch | measured | |"
    yield "|---|---|---|---|---|"
    for goal in GOALS:
        yield f"| {' | '.join(goal.line(known))} |"

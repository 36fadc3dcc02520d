"""What a measure is, and those that ask the same of everybody who is measured (`bench/menu.py` lists all).

A measure opens with the runs it is made of, by the names of who is measured; the rounds take turns with them. What a
figure is compared with is worked out later, from the rounds (`bench/goals.py`, `bench/report.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bench.figures import Figures, largest
from bench.loads import Gave, Load, Plan, Target, run
from bench.machine import BenchError, Spoilt
from bench.processes import family, quiet
from bench.stage import Stage

Run = Callable[[], Figures]
PACE_MS = 50
DELAY_MS = 50.0
PACED_STREAMS = 400
_KEEPS_PACE = 0.97
_HELD_MAX = 4_000


class Skip(Exception):
    """A measure cannot be taken here; the message says why."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the measures work with: the stage, everybody who is measured, and how long a window is.

    ``targets`` by name: `direct`, `farebox`, `bare relay`, `nginx` and more; ``one_wallet``: Farebox as the holder of
    one key calls it. ``filled``: the URL of a database with a large ledger, or nothing.
    """

    stage: Stage
    targets: Mapping[str, Target]
    one_wallet: Target
    seconds: float
    filled: str = ""

    def put(self, target: Target, load: Load) -> Gave:
        """Put a load on the target, once what the one before left behind is worked off."""
        quiet(family(target.pids))
        gave = run(self.stage.programs, self.stage.places, target, load, self.stage.engine_pids)
        if self.stage.backend.process.poll() is not None:
            raise Spoilt(f"the backend ended while {target.name} was measured")
        if gave.bad:
            print(f"  {target.name}: {gave.bad} calls went wrong: {gave.load['sample']}", file=sys.stderr, flush=True)
        return gave


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure. ``lead``: the figure that stands for it; ``more_is_better`` says which way; ``columns`` are
    shown;
    ``mark``: whose figure the others' are compared with."""

    name: str
    says: str
    lead: str
    more_is_better: bool
    columns: tuple[str, ...]
    open: Callable[[Scene], AbstractContextManager[dict[str, Run]]]
    rounds_max: int = 1_000
    mark: str = "farebox"


def everybody(figures: Callable[[Scene, Target], Figures]) -> Callable[[Scene], AbstractContextManager[dict[str, Run]]]:
    """A measure that asks the same of every target."""

    @contextmanager
    def opened(scene: Scene) -> Iterator[dict[str, Run]]:
        yield {name: bound(figures, scene, target) for name, target in scene.targets.items()}

    return opened


def bound(figures: Callable[[Scene, Target], Figures], scene: Scene, target: Target) -> Run:
    """A run of it with this target."""
    return lambda: figures(scene, target)


# Calls ----------------------------------------------------------------------------------------------------------------


def calls(scene: Scene, target: Target) -> Figures:
    """64 connections that call again once they were answered."""
    return of_calls(scene.put(target, Load(64, scene.seconds)))


def of_calls(gave: Gave) -> Figures:
    return {
        "calls_per_s": gave.calls / gave.seconds,
        "cpu_us_per_call": _each(gave.cpu_s, gave.calls),
        "engines_us_per_call": _each(gave.engines_cpu_s, gave.calls),
        "p50_ms": gave.ms("latency", "p50"),
        "p99_ms": gave.ms("latency", "p99"),
        **_common(gave),
    }


def _common(gave: Gave) -> Figures:
    """What tells whether a run can be believed: how busy the cores were, and what went wrong."""
    return {"busy": gave.busy, "foreign_busy": gave.foreign_busy, "others_busy": gave.others_busy, "bad": gave.bad}


def _each(cpu_s: float, count: int) -> float:
    return cpu_s * 1e6 / count if count else 0.0


@contextmanager
def hot_wallet(scene: Scene) -> Iterator[dict[str, Run]]:
    """Many wallets and one, in turns."""
    yield {
        "64 wallets": bound(calls, scene, scene.targets["farebox"]),
        "one wallet": bound(calls, scene, scene.one_wallet),
    }


# Streams --------------------------------------------------------------------------------------------------------------


def burst(scene: Scene, target: Target) -> Figures:
    """16 streams of 200 chunks, each as fast as it is read, one after the other."""
    gave = scene.put(target, Load(16, scene.seconds, plan=Plan(200)))
    return {
        "chunks_per_s": gave.chunks / gave.seconds,
        "cpu_us_per_chunk": _each(gave.cpu_s, gave.chunks),
        "streams_per_s": gave.calls / gave.seconds,
        **_common(gave),
    }


def paced_load(streams: int, seconds: float, pace_ms: int = PACE_MS) -> Load:
    """Streams that begin spread over the warm-up and outlast the window."""
    ramp_s = max(2.0, streams / 600)
    chunks = int((ramp_s + 1 + seconds + 1) * 1000 / pace_ms)
    plan = Plan(chunks, pace_ms * 1000)
    return Load(streams, seconds, warm_s=ramp_s + 1, ramp_s=ramp_s, plan=plan, grace_s=0)


def paced(scene: Scene, target: Target) -> Figures:
    """400 streams of 20 chunks a second."""
    return _of_paced(scene.put(target, paced_load(PACED_STREAMS, scene.seconds)))


def _of_paced(gave: Gave) -> Figures:
    return {
        "cpu_us_per_chunk": _each(gave.cpu_s, gave.chunks),
        "chunks_per_s": gave.chunks / gave.seconds,
        "delay_p50_ms": gave.ms("delay", "p50"),
        "delay_p99_ms": gave.ms("delay", "p99"),
        **_common(gave),
    }


def held(scene: Scene, target: Target) -> Figures:
    """The largest number of paced streams whose chunks arrive in time; what the largest gave."""
    best: Figures = {}

    def holds(streams: int) -> bool:
        gave = scene.put(target, paced_load(streams, scene.seconds))
        kept = gave.chunks >= _KEEPS_PACE * streams * gave.seconds * 1000 / PACE_MS
        good = kept and not gave.bad and gave.ms("delay", "p99") < DELAY_MS
        if good:
            best.update(_of_paced(gave))
        return good

    streams = largest(holds, start=100, limit=_HELD_MAX)
    return {"streams": streams, **best}


def first_byte(scene: Scene, target: Target) -> Figures:
    """100 new streams a second, come what may; each of 20 chunks in a fifth of a second."""
    gave = scene.put(target, Load(512, scene.seconds, rate=100, plan=Plan(20, 10_000)))
    if not gave.chunks:
        raise BenchError(f"no chunk came within {scene.seconds:g} s")
    return {
        "first_p50_ms": gave.ms("first", "p50"),
        "first_p99_ms": gave.ms("first", "p99"),
        "delay_p99_ms": gave.ms("delay", "p99"),
        "cpu_us_per_stream": _each(gave.cpu_s, gave.calls),
        **_common(gave),
    }

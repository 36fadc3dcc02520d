"""One load on one address, and what it gave: the load generator's counts, and what the processes under it used."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import BenchError, Places, busy_s, sitting_on
from bench.processes import Used, family, used
from bench.programs import Programs

_PATIENCE_S = 60.0
_PROMPT = (
    "Please tell me in one paragraph how a small harbour town keeps its ferry running through the winter, who pays for "
    "it, and what the people on the pier talk about while they wait."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the backend answers: pieces of content, microseconds between them (0: as fast as they are read)."""

    chunks: int
    pace_us: int = 0

    @property
    def marker(self) -> str:
        return f"[[bench {self.chunks} {self.pace_us} 0 -1]]"


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked and how hard. ``plan``: a stream, else a reply in one piece. ``rate``: calls a second whatever
    becomes of them, else each connection calls again once it was answered."""

    connections: int
    seconds: float
    warm_s: float = 1.0
    plan: Plan | None = None
    rate: float = 0
    ramp_s: float = 0
    grace_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured: its address, what a caller sends along, and its processes.

    ``headers`` are lines like ``authorization: Bearer …``; each call uses the next one, and ``constant`` ones besides.
    ``elsewhere``: it does not sit on the core of what is measured.
    """

    name: str
    url: str
    pids: tuple[int, ...]
    model: str = "bench"
    headers: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    elsewhere: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True)
class Gave:
    """What a load gave. ``load``: the load generator's own words (see load.c); ``engines_cpu_s``: of Postgres and
    Redis.

    ``busy``: part of its core's time that the target used; ``foreign_busy``: that somebody else did; ``others_busy``:
    how busy the other cores were.
    """

    load: dict[str, Any]
    cpu_s: float
    engines_cpu_s: float
    rss_bytes: int
    busy: float
    foreign_busy: float
    others_busy: float

    @property
    def calls(self) -> int:
        return int(self.load["calls"])

    @property
    def chunks(self) -> int:
        return int(self.load["chunks"])

    @property
    def seconds(self) -> float:
        return float(self.load["seconds"])

    @property
    def bad(self) -> int:
        """Calls that were refused, came short or broke."""
        return int(self.load["refused"] + self.load["short"] + self.load["broken"])

    def ms(self, what: str, which: str) -> float:
        """A quantile of ``latency``, ``first`` (chunk) or (chunk) ``delay``."""
        return float(self.load[f"{what}_us"][which]) / 1000


def body(model: str, plan: Plan | None) -> str:
    """A request as a chat page sends it, with the plan in its prompt."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": f"{plan.marker} {_PROMPT}" if plan else _PROMPT},
        ],
        "temperature": 0.7,
    }
    if plan:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked)


def run(programs: Programs, places: Places, target: Target, load: Load, engines: Callable[[], Sequence[int]]) -> Gave:
    """Put this load on the target; ``engines`` are the processes of Postgres and Redis.

    Raises BenchError when the load generator does not end as it should.
    """
    with tempfile.TemporaryDirectory(prefix="farebox-load-") as folder:
        command = [str(programs.load), *_words(Path(folder), target, load)]
        with sitting_on(places.load):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        patience = load.warm_s + load.seconds + load.grace_s + _PATIENCE_S
        timer = threading.Timer(patience, process.kill)
        timer.start()
        try:
            return _watched(process, places, target, engines)
        finally:
            timer.cancel()
            process.kill()
            process.communicate()


def _words(folder: Path, target: Target, load: Load) -> list[str]:
    (folder / "body").write_text(body(target.model, load.plan))
    (folder / "headers").write_text("\n".join(target.headers))
    numbers = {"c": load.connections, "t": load.seconds, "w": load.warm_s, "r": load.rate, "R": load.ramp_s}
    numbers |= {"g": load.grace_s, "e": load.plan.chunks if load.plan else -1}
    words = [word for name, value in numbers.items() for word in (f"-{name}", str(value))]
    words += [word for line in target.constant for word in ("-H", line)]
    return [*words, "-u", target.url, "-b", str(folder / "body"), "-K", str(folder / "headers")]


def _watched(
    process: subprocess.Popen[str], places: Places, target: Target, engines: Callable[[], Sequence[int]]
) -> Gave:
    assert process.stdout is not None
    _expect(process, "begin")
    pids = family(target.pids)  # some servers start their workers late
    before, engines_before, core, others = _look(pids, engines, places)
    _expect(process, "end")
    after, engines_after, core_after, others_after = _look(pids, engines, places)
    said = json.loads(process.stdout.readline())
    cpu_s, core_s = after.cpu_s - before.cpu_s, (core_after - core) / len(places.measured)
    own_s = 0.0 if target.elsewhere else cpu_s / len(places.measured)
    seconds = said["seconds"]
    return Gave(
        load=said,
        cpu_s=cpu_s,
        engines_cpu_s=max(engines_after.cpu_s - engines_before.cpu_s, 0.0),
        rss_bytes=after.rss_bytes,
        busy=own_s / seconds,
        foreign_busy=0.0 if target.elsewhere else max(core_s - own_s, 0.0) / seconds,
        others_busy=(others_after - others) / seconds / len(places.others),
    )


def _look(pids: Sequence[int], engines: Callable[[], Sequence[int]], places: Places) -> tuple[Used, Used, float, float]:
    return used(pids), used(engines()), busy_s(places.measured), busy_s(places.others)


def _expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline().strip()
    if line != word:
        process.kill()
        raise BenchError(f"the load generator ended before its time: {line} {process.stderr.read().strip()[-500:]}")


def resident_bytes(pids: Sequence[int]) -> int:
    """Memory these processes and their children hold."""
    return used(family(pids)).rss_bytes

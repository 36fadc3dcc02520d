"""The whole run: the house is set up, everybody who is measured starts, the rounds are taken, and it is all told."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import databases, goals, relays
from bench.loads import Load, Plan, Target
from bench.machine import BenchError, description, versions
from bench.measures import Measure, Scene
from bench.menu import MEASURES
from bench.plot import plot
from bench.report import document, tables
from bench.rounds import Measured, take_all
from bench.stage import USERS, Stage, open_stage

_MEET_S = 3.0
Opener = Callable[[Stage], AbstractContextManager[Target]]
"""Starts somebody else to be measured beside Farebox, on the stage's core for that."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. ``only``: names of measures, none for all; ``seconds``: of each window; ``filled``: the URL
    of a database with a large ledger; ``peers``: others to be measured in the same rounds, ``left_out``: those that
    cannot be, and why."""

    data_dir: Path
    only: tuple[str, ...] = ()
    rounds: int = 5
    seconds: float = 4.0
    filled: str = ""
    pepper: str = field(default="", repr=False)
    json_file: Path | None = None
    plot_file: Path | None = None
    nginx: str | None = field(default_factory=relays.nginx_program)
    peers: tuple[Opener, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def chosen(only: Sequence[str]) -> list[Measure]:
    """The measures of these names, all where there are none. Raises BenchError for a name that is none."""
    known = {measure.name: measure for measure in MEASURES}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise BenchError(f"no measure is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in only] if only else list(MEASURES)


def bench(options: Options) -> list[Measured]:
    """Measure, print, and write what was asked for. Raises BenchError."""
    measures = chosen(options.only)
    _end_in_order()
    with open_stage(options.data_dir, options.pepper) as stage, _scene(stage, options) as scene:
        about = _about(stage, scene, options)
        _meet(scene)
        measured = take_all(measures, scene, options.rounds, _told)
    print("\n".join([*tables(measured), "", *goals.table(measured)]))
    _write(options, measured, about)
    return measured


def _write(options: Options, measured: list[Measured], about: dict[str, Any]) -> None:
    if options.json_file is not None:
        options.json_file.write_text(json.dumps(document(measured, about), indent=1, ensure_ascii=False) + "\n")
        print(f"\nEvery round is in {options.json_file}.")
    if options.plot_file is not None:
        options.plot_file.write_text(plot(measured))
        print(f"The plot is {options.plot_file}.")


def _end_in_order() -> None:
    """Have SIGTERM unwind as Ctrl-C does: what was started is ended on the way out."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def _scene(stage: Stage, options: Options) -> Iterator[Scene]:
    with ExitStack() as stack:
        gateway = stack.enter_context(stage.gateway())
        keys = stage.people(gateway, USERS + 1)
        targets = [stage.direct(), stage.callers(gateway, keys[:USERS]), stack.enter_context(relays.bare_relay(stage))]
        if options.nginx is not None:
            targets.append(stack.enter_context(relays.nginx(stage, options.nginx)))
        targets += [stack.enter_context(peer(stage)) for peer in options.peers]
        one = stage.callers(gateway, keys[USERS:], "one wallet")
        yield Scene(stage, {target.name: target for target in targets}, one, options.seconds, options.filled)


def _meet(scene: Scene) -> None:
    """Everybody is called once before it counts: what is loaded or looked up at a first call is there then."""
    for target in scene.targets.values():
        _told(f"first calls: {target.name}")
        seconds = min(scene.seconds, _MEET_S)
        scene.put(target, Load(8, seconds, warm_s=0))
        scene.put(target, Load(8, seconds, warm_s=0, plan=Plan(20)))


def _about(stage: Stage, scene: Scene, options: Options) -> dict[str, Any]:
    """What somebody needs to judge the figures, or to take them again."""
    seats = stage.places
    names = {target.name: target.version for target in scene.targets.values() if target.version}
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": description(),
        "cores": {name: sorted(getattr(seats, name)) for name in ("measured", "engines", "backend", "load")},
        "versions": {**versions(), "compiler": stage.programs.compiler, **names},
        "engines": asyncio.run(databases.facts(stage.engines.database_url, stage.engines.redis_url)),
        "left_out": dict(options.left_out),
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "catalogue": stage.catalogue},
    }


def _told(what: str) -> None:
    print(what, file=sys.stderr, flush=True)

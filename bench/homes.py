"""Measures that need gateways of their own: memory, a ledger that has grown, several processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.databases import drop_database, kept_on, make_database, postgres_facts, postmaster
from bench.figures import Figures
from bench.loads import Load, Plan, Target, resident_bytes
from bench.measures import Run, Scene, Skip, burst, calls, paced_load
from bench.people import make_people, seat_seeded
from bench.relays import bare_relay
from bench.stage import USERS

OPEN_STREAMS = 1_000
_SLOW_PACE_MS = 500
_FEW_CALLERS, _MANY_CALLERS = 10, 500
_FIRST_CALLS_S = 5.0


# Memory ---------------------------------------------------------------------------------------------------------------


@contextmanager
def memory(scene: Scene) -> Iterator[dict[str, Run]]:
    """A thousand open streams in a process that was just started."""

    def of_farebox() -> Figures:
        with scene.stage.gateway() as gateway:
            return _grown(scene, scene.stage.callers(gateway, scene.stage.people(gateway)))

    def of_the_relay() -> Figures:
        with bare_relay(scene.stage) as relay:
            return _grown(scene, relay)

    yield {"farebox": of_farebox, "bare relay": of_the_relay}


def _grown(scene: Scene, target: Target) -> Figures:
    """Calls and streams first, so that what is made once is there; then the streams that are counted."""
    scene.put(target, Load(USERS, 1.0))
    scene.put(target, Load(16, 1.0, plan=Plan(200)))
    before = resident_bytes(target.pids)
    gave = scene.put(target, paced_load(OPEN_STREAMS, scene.seconds, _SLOW_PACE_MS))
    return {
        "kib_per_stream": (gave.rss_bytes - before) / OPEN_STREAMS / 1024,
        "process_mib": gave.rss_bytes / 2**20,
        "before_mib": before / 2**20,
        "streams": float(gave.load["most_active"]),
        "bad": float(gave.bad),
    }


# A ledger that has grown ---------------------------------------------------------------------------------------------


@contextmanager
def ledger_growth(scene: Scene) -> Iterator[dict[str, Run]]:
    """Two gateways on one Postgres: an empty ledger with ten users, and the one that has grown."""
    if not scene.filled:
        raise Skip("needs a database with a large ledger: farebox bench --seed-data makes one, --database-url names it")
    with ExitStack() as stack:
        empty_url = asyncio.run(make_database(scene.filled))
        stack.callback(lambda: asyncio.run(drop_database(empty_url, scene.filled)))
        asyncio.run(postgres_facts(scene.filled))
        _keep_apart(scene, stack)
        empty = stack.enter_context(scene.stage.gateway(database_url=empty_url))
        grown = stack.enter_context(scene.stage.gateway(database_url=scene.filled))
        pepper = scene.stage.pepper
        few = asyncio.run(make_people(empty_url, pepper, _FEW_CALLERS))
        many = asyncio.run(seat_seeded(scene.filled, pepper, _MANY_CALLERS))
        yield {
            "empty": _settled_in(scene, scene.stage.callers(empty, few, "empty")),
            "grown": _settled_in(scene, scene.stage.callers(grown, many, "grown")),
        }


def _keep_apart(scene: Scene, stack: ExitStack) -> None:
    """The other Postgres shall not sit on the gateway's core, and what it uses is counted."""
    server = asyncio.run(postmaster(scene.filled))
    if server is not None:
        stack.enter_context(kept_on(server, scene.stage.places.engines))
        scene.stage.servers.append(server)
        stack.callback(scene.stage.servers.remove, server)


def _settled_in(scene: Scene, target: Target) -> Run:
    """A run whose callers the gateway has met before: the first call of each asks the database who that is."""
    scene.put(target, Load(64, 0.5, warm_s=_FIRST_CALLS_S))

    def run() -> Figures:
        figures = calls(scene, target)
        return {"cost_us_per_call": figures["cpu_us_per_call"] + figures["engines_us_per_call"], **figures}

    return run


# Several processes ---------------------------------------------------------------------------------------------------


@contextmanager
def workers(scene: Scene) -> Iterator[dict[str, Run]]:
    """One process on one core, and two on two."""
    help_text = subprocess.run([sys.executable, "-m", "farebox", "serve", "--help"], capture_output=True, text=True)
    if "--workers" not in help_text.stdout:
        raise Skip("this Farebox has no farebox serve --workers")
    stage = scene.stage
    with stage.gateway(words=("--workers", "2"), cores=stage.places.measured | {max(stage.places.engines)}) as gateway:
        two = stage.callers(gateway, stage.people(gateway), "two")
        yield {
            "one process": _both(scene, scene.targets["farebox"]),
            "two processes": _both(scene, two),
        }


def _both(scene: Scene, target: Target) -> Run:
    """Calls, and chunks of bursts, which take next to nothing of the engines."""

    def run() -> Figures:
        chunks = burst(scene, target)
        return calls(scene, target) | {"burst_chunks_per_s": chunks["chunks_per_s"]}

    return run

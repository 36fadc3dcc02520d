"""Where the gateway's time goes under a load: sampled stacks, a flame graph, and a reading of both.

    python -m bench.profile calls               # or hot-wallet, burst, paced
    python -m bench.profile paced --seconds 20 --native

Writes ``profile-NAME.folded`` (one stack a line, for any flame graph tool) and ``profile-NAME.svg`` (to open in a
browser), and prints what each function costs a call or a chunk, in microseconds. The samples are py-spy's, from
outside: the gateway runs as it always does. A tracer inside it (cProfile, yappi) would add its own cost to every
function call, so that code of many small functions looks dearer than it is. py-spy is installed into a folder of its
own; other users than root may have to be allowed to trace (`kernel.yama.ptrace_scope`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from pathlib import Path

from bench import environments
from bench.folded import reading
from bench.loads import Gave, Load, Plan, Target, run
from bench.machine import BenchError, sitting_on
from bench.measures import PACED_STREAMS, paced_load
from bench.stage import USERS, Stage, open_stage

_PY_SPY = "py-spy==0.4.1"
_RATE = 400
_SETTLE_S = 1.0


def load_of(name: str, seconds: float) -> tuple[Load, str]:
    """The load of a measure, and what is counted under it."""
    if name == "burst":
        return Load(16, seconds, plan=Plan(200)), "chunk"
    if name == "paced":
        return paced_load(PACED_STREAMS, seconds), "chunk"
    return Load(64, seconds), "call"


def profile(name: str, seconds: float, data_dir: Path, tools: Path, out: Path, native: bool) -> None:
    """Profile the gateway under a load. Raises BenchError, environments.CannotInstall."""
    spy = environments.python(tools / "py-spy", _PY_SPY) / "py-spy"
    with open_stage(data_dir) as stage, stage.gateway() as gateway:
        keys = stage.people(gateway, 1 if name == "hot-wallet" else USERS)
        target = stage.callers(gateway, keys)
        folded = out / f"profile-{name}.folded"
        load, of = load_of(name, seconds)
        gave = _sampled(stage, target, load, spy, folded, native)
    cpu_us = gave.cpu_s * 1e6 / max(gave.calls if of == "call" else gave.chunks, 1)
    print("\n".join(reading(folded.read_text(), cpu_us, of)))
    print(f"\nThe stacks are in {folded}, the flame graph in {folded.with_suffix('.svg')}.")


def _sampled(stage: Stage, target: Target, load: Load, spy: Path, folded: Path, native: bool) -> Gave:
    """The load runs without the sampler, for what it gives, then once for the stacks and once for the picture."""
    given: list[Gave] = []

    def put() -> None:
        given.append(run(stage.programs, stage.places, target, load, stage.engine_pids))

    put()
    for form, file in (("raw", folded), ("flamegraph", folded.with_suffix(".svg"))):
        loading = threading.Thread(target=put)
        loading.start()
        threading.Event().wait(load.warm_s + _SETTLE_S / 2)
        _spy(
            stage,
            [str(spy), "record", "--pid", str(target.pids[0]), "--format", form, "--output", str(file)],
            load,
            native,
        )
        loading.join()
    return given[0]


def _spy(stage: Stage, command: list[str], load: Load, native: bool) -> None:
    words = ["--rate", str(_RATE), "--duration", str(max(1, int(load.seconds - _SETTLE_S)))]
    with sitting_on(stage.places.load):
        done = subprocess.run([*command, *words, *(["--native"] if native else [])], capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"py-spy: {(done.stderr or done.stdout).strip()[-500:]}")


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("measure", choices=("calls", "hot-wallet", "burst", "paced"))
    words.add_argument("--seconds", type=float, default=10)
    words.add_argument("--native", action="store_true", help="frames of C code, too")
    words.add_argument("--data-dir", type=Path, default=Path("farebox-data"))
    words.add_argument("--tools", type=Path, default=Path(".bench-peers"))
    words.add_argument("--out", type=Path, default=Path("."))
    asked = words.parse_args()
    try:
        profile(asked.measure, asked.seconds, asked.data_dir, asked.tools, asked.out, asked.native)
    except (BenchError, environments.CannotInstall) as error:
        sys.exit(f"bench.profile: {error}")

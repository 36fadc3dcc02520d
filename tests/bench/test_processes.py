"""Processes for measuring: started on their cores, waited for, counted, ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.machine import BenchError
from bench.processes import family, living_in, parent, quiet, started, used

CORES = frozenset({min(os.sched_getaffinity(0))})
SPIN = "import time; print('ready at 7', flush=True); until = time.process_time() + 0.3\n"
SPIN += "while time.process_time() < until: pass\nprint('done', flush=True); time.sleep(60)"
CHILD = "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
CHILD += "print('child', c.pid, flush=True); c.wait()"


def test_a_process_sits_on_its_cores_and_says_when_it_is_ready(tmp_path: Path) -> None:
    with started([sys.executable, "-c", SPIN], tmp_path / "log", CORES) as run:
        assert run.says(r"ready at (\d)")[1] == "7"
        assert os.sched_getaffinity(run.pid) == CORES
        run.says("done")
        assert used([run.pid]).cpu_s >= 0.3 and used([run.pid]).rss_bytes > 2**20
    assert run.process.returncode == -15 and used([run.pid]) == (0, 0)


def test_one_that_ends_before_its_time_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with (
        pytest.raises(BenchError, match=r"did not start: no such port"),
        started(command, tmp_path / "log", CORES) as run,
    ):
        run.says("ready")


def test_one_that_does_not_get_ready_in_time_is_given_up(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="did not start"),
        started([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", CORES) as run,
    ):
        run.answers(lambda: False, within_s=0.1)


def test_children_belong_to_the_family(tmp_path: Path) -> None:
    with started([sys.executable, "-c", CHILD], tmp_path / "log", CORES, folder=tmp_path) as run:
        child = int(run.says(r"child (\d+)")[1])
        assert family([run.pid]) == [run.pid, child] and parent(child) == run.pid
        assert set(living_in(tmp_path)) == {run.pid, child}
    os.kill(child, 9)


def test_the_gone_have_no_parent_and_use_nothing() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    assert parent(gone.pid) is None and used([gone.pid]) == (0, 0)


def test_a_process_at_rest_is_quiet(tmp_path: Path) -> None:
    with started([sys.executable, "-c", SPIN], tmp_path / "log", CORES) as run:
        run.says("done")
        begun = time.monotonic()
        quiet([run.pid], within_s=60, look_s=0.05)
        assert time.monotonic() - begun < 50


def test_quiet_is_not_waited_for_without_bound(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "while True: pass"], tmp_path / "log", CORES) as run:
        quiet([run.pid], within_s=0.3, look_s=0.1)
        assert run.process.poll() is None

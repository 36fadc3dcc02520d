"""A load on an address gives what came of it, and what the processes under it used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.loads import Load, Plan, Target, body, run
from bench.machine import BenchError, Places
from bench.processes import Started, started
from bench.programs import Programs, compiled

CORES = frozenset({0})
SEATS = Places(CORES, CORES, CORES, CORES)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return compiled(tmp_path_factory.mktemp("bin"))


@pytest.fixture
def backend(programs: Programs, tmp_path: Path) -> Iterator[Started]:
    with started([str(programs.backend)], tmp_path / "log", CORES) as run:
        yield run


def target(backend: Started) -> Target:
    port = backend.says(r"listening (\d+)")[1]
    return Target("backend", f"http://127.0.0.1:{port}/v1/chat/completions", (backend.pid,), headers=("a: 1", "a: 2"))


def test_calls_are_counted_and_the_cpu_under_them(programs: Programs, backend: Started) -> None:
    gave = run(programs, SEATS, target(backend), Load(4, 0.5, warm_s=0.1), lambda: [])
    assert gave.calls > 0 and gave.bad == 0 and gave.seconds == pytest.approx(0.5, abs=0.01)
    assert gave.cpu_s > 0 == gave.engines_cpu_s and gave.rss_bytes > 2**16
    assert gave.busy > 0 and gave.others_busy > 0 and gave.ms("latency", "p50") > 0


def test_streams_bring_their_chunks(programs: Programs, backend: Started) -> None:
    gave = run(programs, SEATS, target(backend), Load(2, 0.5, warm_s=0.1, plan=Plan(50)), lambda: [])
    assert gave.chunks > 0 == gave.bad and gave.ms("first", "p50") > 0 and gave.ms("delay", "p99") > 0


def test_what_goes_wrong_is_bad(programs: Programs) -> None:
    nobody = Target("nobody", "http://127.0.0.1:9/", ())
    gave = run(programs, SEATS, nobody, Load(2, 0.2, warm_s=0), lambda: [])
    assert gave.calls == 0 < gave.bad


def test_a_load_that_cannot_begin_is_told(programs: Programs) -> None:
    with pytest.raises(BenchError, match="the address must be"):
        run(programs, SEATS, Target("odd", "https://example", ()), Load(1, 0.1), lambda: [])


def test_a_request_is_a_chat_with_its_plan_in_the_prompt() -> None:
    plain, streamed = json.loads(body("m", None)), json.loads(body("m", Plan(20, 50_000)))
    assert plain["model"] == "m" and "stream" not in plain
    assert streamed["stream"] and streamed["messages"][1]["content"].startswith("[[bench 20 50000 0 -1]] ")

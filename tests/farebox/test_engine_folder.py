"""The data folder: whose it is, and where the servers of a long path listen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farebox.engines import EnginesError
from tests.farebox.engine_data import ask, start


async def test_a_long_path_gets_a_short_socket_folder_of_its_own(folder: Path) -> None:
    long = folder / ("long name " * 9).strip()
    with start(long, redis=True) as engines:
        assert await ask(engines.database_url, "SELECT 1") == 1
        assert "/tmp/farebox-" in engines.redis_url
        short = Path(engines.redis_url.removeprefix("unix://").partition("?")[0]).parent
        assert short.stat().st_mode & 0o777 == 0o700
    assert not short.exists()


def test_a_socket_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    long = folder / ("long name " * 9).strip()
    with start(long, postgres=False, redis=True) as engines:
        short = Path(engines.redis_url.removeprefix("unix://").partition("?")[0]).parent
    short.mkdir(mode=0o755)
    try:
        with pytest.raises(EnginesError, match="must be a private folder"):
            start(long, postgres=False, redis=True)
    finally:
        short.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has private parents that others cannot enter")
def test_root_opens_no_parent_folder_to_others(folder: Path) -> None:
    folder.parent.chmod(0o700)
    with start(folder, redis=True):
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_uid == 0
        assert (folder / "postgres").stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every folder")
def test_a_folder_of_another_user_is_refused() -> None:
    with pytest.raises(EnginesError, match="belongs to another user"):
        start(Path("/"))

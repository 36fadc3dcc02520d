"""The embedded Valkey: what it is set to, and as whom it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from tests.farebox.engine_data import start


def test_it_forgets_nothing_to_make_room_writes_nothing_down_and_listens_on_no_port(folder: Path) -> None:
    with (
        start(folder, postgres=False, redis=True) as engines,
        redis.Redis.from_url(engines.redis_url, decode_responses=True) as client,
    ):
        settings: dict[str, str] = client.config_get("port", "maxmemory-policy", "save")
        assert settings == {"port": "0", "maxmemory-policy": "noeviction", "save": ""}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as somebody else")
def test_root_runs_the_servers_as_the_owner_of_the_folder(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    (folder / "postgres").mkdir()
    with start(folder, postgres=False, redis=True):
        assert (folder / "sockets" / "valkey.sock").stat().st_uid == 12345

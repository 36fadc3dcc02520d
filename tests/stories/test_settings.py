"""A wrong setting stops `farebox serve` before anything starts, and everything that is wrong is told at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
SECRET = "hunter2-hunter2"


def serve(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`farebox serve` in this folder, with these variables and nothing of ours; it must end by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    return subprocess.run(
        [sys.executable, "-m", "farebox", "serve"],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(HOUSE)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_everything_wrong_is_named_at_once_and_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "farebox.toml").write_text(
        """
        drain_timout_s = 3
        [limits]
        body_bytes_max = 1
        [[upstreams]]
        name = "main"
        base_url = "ftp://example.org"
        [[models]]
        id = "small"
        upstream = "man"
        prices = { input = "cheap" }
        [[tiers]]
        name = "free"
        upgrade_to = "pro"
        windows = [{ limit = 5, of = "requests", per = "fortnight" }]
        """
    )
    ended = serve(
        tmp_path,
        FAREBOX_BIND="nowhere",
        FAREBOX_DATABASE_URL=f"mysql://farebox:{SECRET}@db/x",
        FAREBOX_REDIS_URL=f"http://:{SECRET}@cache",
        FAREBOX_KEY_PEPPER="short",
        FAREBOX_BANK__BEAT_S="30",
    )
    assert ended.returncode == 2, ended.stderr
    for name in (
        "FAREBOX_BIND",
        "FAREBOX_DATABASE_URL",
        "FAREBOX_REDIS_URL",
        "FAREBOX_KEY_PEPPER",
        "hold_ttl_s",
        "drain_timout_s",
        "body_bytes_max",
        "upstreams[0].base_url",
        "models[0].upstream",
        "models[0].prices",
        "tiers[0].upgrade_to",
        "tiers[0].windows",
    ):
        assert name in ended.stderr, name
    assert "drain_timeout_s" in ended.stderr  # what was meant
    assert SECRET not in ended.stdout + ended.stderr and "Traceback" not in ended.stderr
    assert not ended.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["farebox.toml"]


@pytest.mark.parametrize(
    ("text", "told"),
    [("bind = ", "farebox.toml"), (None, "missing.toml"), ("[[tiers]]\nname = 'pro'", "default tier")],
    ids=["not TOML", "not there", "without the default tier"],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, told: str) -> None:
    file = tmp_path / ("farebox.toml" if text is not None else "missing.toml")
    if text is not None:
        file.write_text(text)
    ended = serve(tmp_path, FAREBOX_CONFIG=str(file))
    assert ended.returncode == 2 and told in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "farebox-data").exists()


def test_a_port_that_is_taken_is_told_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve(tmp_path, FAREBOX_BIND=f"127.0.0.1:{port}")
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "farebox-data").exists()

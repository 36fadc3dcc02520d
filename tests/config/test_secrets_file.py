"""Made secrets: once, whole, and for the owner's eyes only."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.secrets_file import ensure_secret


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "made" / "pepper"
    first = ensure_secret(path)
    assert len(first.get_secret_value()) >= 32
    assert ensure_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["pepper"]


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: ensure_secret(tmp_path / "pepper").get_secret_value(), range(64)))
    assert len(made) == 1


def test_an_emptied_file_is_told_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "pepper").touch()
    with pytest.raises(ValueError, match="is empty"):
        ensure_secret(tmp_path / "pepper")

"""The data folder under the doctor's eyes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from farebox.check_folder import look_at_folder
from farebox.findings import Found


def looked(folder: Path) -> dict[str, Found]:
    return {found.subject.replace(str(folder), "folder"): found for found in look_at_folder(folder)}


def test_a_good_folder_is_good_and_left_as_it_was(data_dir: Path) -> None:
    assert {found.verdict for found in look_at_folder(data_dir)} == {"ok"}
    assert list(data_dir.iterdir()) == []


def test_a_folder_that_is_not_there_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    (found,) = look_at_folder(tmp_path / "none")
    assert found.verdict == "note" and not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_an_error(data_dir: Path) -> None:
    data_dir.chmod(0o500)
    assert looked(data_dir)["folder"].verdict == "error"
    data_dir.chmod(0o700)


_ROOM = [(50, 0, "error"), (500, 0, "warning"), (5000, 0, "ok"), (5000, 6000, "warning")]


@pytest.mark.parametrize(("free", "uploads", "verdict"), _ROOM)
def test_room_that_runs_out_is_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, free: int, uploads: int, verdict: str
) -> None:
    usage = shutil.disk_usage(data_dir)._replace(free=free * 1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (room,) = [found for found in look_at_folder(data_dir, uploads * 1024**2) if found.subject == "room"]
    assert room.verdict == verdict and room.says.startswith(f"{free} MiB are free")


def test_a_secret_that_others_can_read_is_told(data_dir: Path) -> None:
    secret = data_dir / "key_pepper"
    secret.write_text("pepper")
    secret.chmod(0o644)
    assert looked(data_dir)["key_pepper"].verdict == "warning"
    secret.chmod(0o600)
    assert "key_pepper" not in looked(data_dir)


def test_what_the_spool_holds_is_counted(data_dir: Path) -> None:
    spool = data_dir / "spool"
    spool.mkdir()
    (spool / "a.spool").write_bytes(b"x 1\nx 2\n")
    (spool / "b.spool").write_bytes(b"x 3\n")
    (spool / "empty.spool").touch()
    (waiting,) = [found for found in look_at_folder(data_dir) if found.subject == "spool"]
    assert waiting.verdict == "warning" and waiting.says.startswith("3 settlements wait")
    (spool / "a.refused").write_bytes(b"x 1\n")
    (spool / "a.spoilt").write_bytes(b"??\n")
    told = [(found.verdict, found.says[0]) for found in look_at_folder(data_dir) if found.subject == "spool"]
    assert told == [("warning", "3"), ("error", "1"), ("warning", "1")]

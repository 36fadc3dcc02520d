"""The doctor's look at the data folder: writable, with room, its secrets closed to others, its spool empty."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from farebox.findings import Found, Verdict

_AREA = "data folder"
_MIB = 1024**2
_LEAST_BYTES = 100 * _MIB
_FEW_BYTES = 1024 * _MIB
_SECRETS = ("key_pepper", "admin_key")
_READ_BYTES = 64 * _MIB


def look_at_folder(folder: Path, upload_room: int = 0) -> Iterator[Found]:
    """Everything that is to be said of it; ``upload_room`` is the bytes that uploads may take. Reads, but for one
    empty file made and removed; blocking."""
    if not folder.is_dir():
        yield Found(_AREA, str(folder), "note", "is not there yet: the first start makes it")
        return
    yield _writable(folder)
    yield _room(folder, upload_room)
    yield from _open_secrets(folder)
    yield from _spooled(folder / "spool")


def _writable(folder: Path) -> Found:
    probe = folder / f".doctor-{os.getpid()}"
    try:
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        return Found(_AREA, str(folder), "error", f"cannot be written: {error.strerror}")
    return Found(_AREA, str(folder), "ok", "can be written")


def _room(folder: Path, upload_room: int) -> Found:
    free, wanted = shutil.disk_usage(folder).free, max(_FEW_BYTES, upload_room)
    verdict: Verdict = "error" if free < _LEAST_BYTES else "warning" if free < wanted else "ok"
    said = "" if verdict == "ok" else f"; the spool and uploads may want {wanted // _MIB}"
    return Found(_AREA, "room", verdict, f"{free // _MIB} MiB are free{said}")


def _open_secrets(folder: Path) -> Iterator[Found]:
    for name in _SECRETS:
        path = folder / name
        if path.exists() and path.stat().st_mode & 0o077:
            yield Found(_AREA, name, "warning", "others on this machine can read it: chmod 600")


def _spooled(spool: Path) -> Iterator[Found]:
    """Settlements that are on disk and not in the ledger, and files that a person has to look at."""
    waiting = sum(_lines(path) for path in spool.glob("*.spool"))
    refused = sum(_lines(path) for path in spool.glob("*.refused"))
    spoilt = sum(_lines(path) for path in spool.glob("*.spoilt"))
    if waiting:
        yield Found(_AREA, "spool", "warning", f"{waiting} settlements wait to be posted; a running Farebox does it")
    if refused:
        yield Found(_AREA, "spool", "error", f"{refused} settlements were refused by the ledger: see *.refused there")
    if spoilt:
        yield Found(_AREA, "spool", "warning", f"{spoilt} lines were torn and set apart: see *.spoilt there")
    if not (waiting or refused or spoilt):
        yield Found(_AREA, "spool", "ok", "is empty")


def _lines(path: Path) -> int:
    """Records in a file, as far as its first 64 MiB."""
    try:
        with path.open("rb") as file:
            return sum(1 for line in file.read(_READ_BYTES).split(b"\n") if line)
    except OSError:
        return 0  # taken over and removed by a process that starts just now

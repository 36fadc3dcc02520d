"""Settlements kept on disk while the bank is away: append, checksum, fsync; replay after a restart.

One file for each process, locked while the process lives, so that whoever starts next takes over the files nobody holds.
A record is one line, ``<crc32 in hex> <json>``: a torn or spoilt line is reported and passed over, the good ones around it
are not lost. Blocking: call it from a thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ledger.hold import Settlement

_log = logging.getLogger("farebox.ledger")
_decode = msgspec.json.Decoder(Settlement).decode


class Spool:
    """The spool folder as one process sees it. ``records`` is how many of its own lines are on disk."""

    def __init__(self, folder: Path, owner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._path = folder / f"{owner}.spool"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.records = 0

    def append(self, events: Iterable[Settlement]) -> None:
        """Durable when it returns. Raises OSError (disk full)."""
        lines = [_line(event) for event in events]
        data = b"".join(lines)
        # A torn earlier line must not swallow ours: every append starts on a fresh line.
        if os.fstat(self._file).st_size and not self._ends_cleanly():
            data = b"\n" + data
        _write_all(self._file, data)
        os.fsync(self._file)
        self.records += len(lines)

    def clear(self) -> None:
        """Everything in the own file is posted."""
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self.records = 0

    def orphans(self) -> Iterator[tuple[Orphan, list[Settlement]]]:
        """The files of processes that are gone, each with its good records; the caller posts them, then removes it."""
        for path in sorted(self._folder.glob("*.spool")):
            if path != self._path and (orphan := Orphan.take(path)) is not None:
                yield orphan, orphan.read()

    def close(self) -> None:
        """Let go of the own file; an empty one is removed."""
        if not os.fstat(self._file).st_size:
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _ends_cleanly(self) -> bool:
        return os.pread(self._file, 1, os.fstat(self._file).st_size - 1) == b"\n"


class Orphan:
    """A dead process's file, locked for us."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path) -> Orphan | None:
        """The file, or None while its process lives (or somebody else takes it over)."""
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return cls(path, file)

    def read(self) -> list[Settlement]:
        """The good records. Spoilt lines are kept beside the file (``*.spoilt``) and reported."""
        good, spoilt = [], []
        for line in self._path.read_bytes().split(b"\n"):
            if not line:
                continue
            event = _parsed(line)
            if event is None:
                spoilt.append(line)
            else:
                good.append(event)
        if spoilt:
            self._path.with_suffix(".spoilt").write_bytes(b"\n".join(spoilt) + b"\n")
            _log.error("spool records spoilt", extra={"file": self._path.name, "records": len(spoilt)})
        return good

    def remove(self) -> None:
        """All its records are posted."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def leave(self) -> None:
        """Let go without removing: not everything could be posted."""
        os.close(self._file)


def _line(event: Settlement) -> bytes:
    body = msgspec.json.encode(event)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parsed(line: bytes) -> Settlement | None:
    checksum, _, body = line.partition(b" ")
    try:
        return _decode(body) if int(checksum, 16) == zlib.crc32(body) else None
    except (ValueError, msgspec.MsgspecError):
        return None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]

"""Settlements kept on disk while the bank is away: append, checksum, fsync; replay after a restart.

One file for each process, locked while the process lives, so that whoever starts next takes over the files nobody
holds. A record is one line, ``<crc32 in hex> <json>``: a torn or spoilt line is reported and passed over, the good ones
around it are not lost. What the bank refuses for itself is kept in a file of its own, for a person. Blocking: call it
from a thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ledger.hold import Settlement

_log = logging.getLogger("farebox.ledger")
_decode = msgspec.json.Decoder(Settlement).decode


class Spool:
    """The spool folder as one process sees it. ``records`` is how many of its own lines are on disk.

    Raises OSError when the folder cannot be written.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._owner = owner
        # A new name each time: what an earlier process of the same name left is an orphan like any other.
        self._path = folder / f"{owner}-{secrets.token_hex(8)}.spool"
        # It appears under that name only when it is locked: before, it would look like an orphan.
        unlocked = self._path.with_suffix(".new")
        self._file = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(self._path)
        # A thread may still be writing when its task was cancelled and the next one comes.
        self._turn = threading.Lock()
        self.records = 0

    def append(self, events: Iterable[Settlement]) -> None:
        """Durable when it returns. Raises OSError (disk full)."""
        lines = [_line(event) for event in events]
        with self._turn:
            # A torn earlier line must not swallow ours: every append starts on a fresh line.
            start = b"" if self._ends_cleanly() else b"\n"
            _write_all(self._file, start + b"".join(lines))
            os.fsync(self._file)
            self.records += len(lines)

    def clear(self) -> None:
        """Everything in the own file is posted."""
        with self._turn:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
            self.records = 0

    def set_apart(self, event: Settlement) -> None:
        """Keep a settlement that cannot be posted, in ``<owner>.refused``. Nobody replays that file. Raises OSError."""
        file = os.open(self._folder / f"{self._owner}.refused", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_all(file, _line(event))
            os.fsync(file)
        finally:
            os.close(file)

    def orphans(self) -> Iterator[tuple[Orphan, list[Settlement]]]:
        """The files of processes that are gone, each with its good records; the caller posts them, then removes it."""
        for path in sorted(self._folder.glob("*.spool")):
            if path != self._path and (orphan := Orphan.take(path)) is not None:
                yield orphan, orphan.read()

    def close(self) -> None:
        """Let go of the own file; an empty one is removed."""
        with self._turn:
            if not os.fstat(self._file).st_size:
                self._path.unlink(missing_ok=True)
            os.close(self._file)

    def _ends_cleanly(self) -> bool:
        size = os.fstat(self._file).st_size
        return not size or os.pread(self._file, 1, size - 1) == b"\n"


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
        for line in self._content().split(b"\n"):
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

    def _content(self) -> bytes:
        # Through the locked descriptor: by its name the file may just have been removed by another who took it over.
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            return file.read()


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

"""The data folder of the embedded engines: whose it is, where the sockets are, and one process at a time in it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from farebox.engine_programs import EnginesError, service_account

POSTGRES_SOCKET = ".s.PGSQL.5432"
START_SECONDS = 120.0  # crash recovery of a large journal is slow; a fresh start takes about one second
STOP_SECONDS = 60.0
_SOCKET_PATH_MAX = 100  # sun_path holds 108 bytes on Linux and 104 on macOS


def own_folder(folder: Path) -> Path:
    """The folder, made where it is not there. Raises EnginesError for one of somebody else."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = folder.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise EnginesError(f"The data folder {folder} belongs to another user (uid {owner}): start as that user.")
    return folder


def make_private(path: Path, folder: Path) -> Path:
    """A folder within ``folder`` that only the servers' account can enter."""
    path.mkdir(mode=0o700, exist_ok=True)
    _give(path, folder)
    return path


def _give(path: Path, folder: Path) -> None:
    account = service_account(folder)
    if account is not None:
        os.chown(path, *account)


def socket_folder(folder: Path) -> Path:
    """Where the servers of ``folder`` listen: in it, or where its path is too long, in the common temp folder.

    Raises EnginesError where others could enter that one.
    """
    sockets = folder / "sockets"
    if len(os.fsencode(sockets / POSTGRES_SOCKET)) <= _SOCKET_PATH_MAX:
        return make_private(sockets, folder)
    # Not tempfile.gettempdir(): it follows TMPDIR, and two processes must come to the same place.
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path("/tmp") / f"farebox-{name}"
    with contextlib.suppress(FileExistsError):
        short.mkdir(mode=0o700)
        _give(short, folder)
    return _checked_private(short, folder)


def _checked_private(path: Path, folder: Path) -> Path:
    # The temp folder is everybody's: somebody else may have made this name first, to sit between us and the database.
    account = service_account(folder)
    expected = account[0] if account else os.geteuid()
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != expected or status.st_mode & 0o077:
        raise EnginesError(
            f"{path} must be a private folder of uid {expected}: remove it, or use a shorter data folder."
        )
    return path


def open_lock(path: Path) -> int:
    """The descriptor of a file to lock; no process that is started inherits it."""
    lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _give(path, path.parent)
    return lock


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the engines of a folder."""
    lock = open_lock(folder / "engines.lock")
    try:
        wait_for(lambda: _try_lock(lock), f"another process to finish starting or stopping the engines of {folder}")
        yield
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(ready: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until it is ready. Raises EnginesError that names ``what`` was waited for."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise EnginesError(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(0.02)

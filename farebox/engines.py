"""Embedded engines: a real Postgres and a real Valkey from wheels, on private unix sockets under one data folder.

This is not a second dialect and not a database layer: it starts and stops the two servers and says where they listen.
The servers are driven by their own programs (`initdb`, `pg_ctl`, `valkey-server`), not by the Python layers of the
wheels: those register `atexit` hooks, and as root they open every parent folder of the data to everybody.

Life of the servers. They are detached from the process that starts them. Each process that uses them holds a shared
file lock; whoever leaves last stops them. The kernel drops the lock of a killed process, so after `kill -9` the
servers run on and the next `Engines.start` attaches to them. There is no `atexit` hook: a process that exits without
`stop` leaves them running in the same way, and loses nothing.

As root. Postgres refuses to run as root, so both servers run as the owner of the data folder, or as `nobody` if that
is root itself. They keep a single capability (`CAP_DAC_OVERRIDE`, through `setpriv` of util-linux), so that an
environment or a data folder under a closed parent such as `/root` works, and no folder has to be opened to others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self
from urllib.parse import quote

from farebox.engine_folder import exclusive, open_lock, own_folder, socket_folder
from farebox.engine_postgres import start_postgres, stop_postgres
from farebox.engine_programs import EnginesError as EnginesError
from farebox.engine_valkey import VALKEY_SOCKET, start_valkey, stop_valkey


class Engines:
    """The running engines of one data folder, and this process's claim on them.

    `database_url` (SQLAlchemy, asyncpg) and `redis_url` (redis-py) are empty where the engine was not asked for.
    Use `Engines.start(...)` as a context manager or call `stop()`; both block, so async code wraps them in a thread.
    """

    def __init__(self, data_dir: Path, users_lock: int) -> None:
        self.data_dir = data_dir
        self.database_url = ""
        self.redis_url = ""
        self._users_lock: int | None = users_lock

    @classmethod
    def start(cls, data_dir: Path | str, *, postgres: bool, redis: bool, durable: bool = True) -> Self:
        """Start the asked engines under `data_dir`, or attach to them where they run already.

        `durable=False` lets Postgres skip fsync: for data that may be lost with the machine, such as a test's.
        Raises EnginesError if the wheels are missing, the folder belongs to somebody else, or a server does not start.
        """
        folder = own_folder(Path(data_dir).expanduser().resolve())
        with exclusive(folder):
            users_lock = open_lock(folder / "engines.users")
            fcntl.flock(users_lock, fcntl.LOCK_SH)
            engines = cls(folder, users_lock)
            try:
                engines._start(postgres=postgres, redis=redis, durable=durable)
            except BaseException:
                engines._leave()
                raise
        return engines

    def _start(self, *, postgres: bool, redis: bool, durable: bool) -> None:
        sockets = socket_folder(self.data_dir)
        if postgres:
            start_postgres(self.data_dir, sockets, durable=durable)
            self.database_url = f"postgresql+asyncpg://postgres@/postgres?host={quote(str(sockets))}"
        if redis:
            start_valkey(self.data_dir, sockets)
            self.redis_url = f"unix://{quote(str(sockets / VALKEY_SOCKET))}?db=0"

    def stop(self) -> None:
        """Give up this claim; the servers stop if it was the last. Calling it again does nothing.

        Raises EnginesError if a server does not stop within its bound.
        """
        if self._users_lock is not None:
            with exclusive(self.data_dir):
                self._leave()

    def _leave(self) -> None:
        users_lock, self._users_lock = self._users_lock, None
        if users_lock is not None:
            try:
                _stop_if_unused(self.data_dir, users_lock)
            finally:
                os.close(users_lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def stop_abandoned(data_dir: Path | str) -> bool:
    """Stop what a killed process left running under `data_dir`; True if nobody uses its engines (any more).

    False also for a folder where no engine was ever started, which may be one that is just being started.
    """
    folder = Path(data_dir).expanduser().resolve()
    if not (folder / "engines.users").exists():
        return False
    with exclusive(folder):
        users_lock = open_lock(folder / "engines.users")
        try:
            return _stop_if_unused(folder, users_lock)
        finally:
            os.close(users_lock)


def _stop_if_unused(folder: Path, users_lock: int) -> bool:
    # Asking for the exclusive lock on the same descriptor gives up the shared one, also when it is refused.
    try:
        fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    sockets = socket_folder(folder)
    stop_valkey(sockets)
    stop_postgres(folder, sockets)
    with contextlib.suppress(OSError):
        sockets.rmdir()  # tidy where it stands in the common temp folder; a file left in it keeps it
    return True

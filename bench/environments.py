"""Environments of their own for what is no part of Farebox: peers and tools, each in a folder, from the package
registries.

The registries are reached through their ordinary clients (pip, npm, apt), at versions that are pinned here by the
callers. A folder that is whole has a file ``made``: an interrupted install is begun anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_INSTALL_S = 1800


class CannotInstall(Exception):
    """Something cannot be had here; the message says what was tried."""


def python(folder: Path, *requirements: str) -> Path:
    """The folder with the programs of a virtual environment that has these. Raises CannotInstall."""

    def make() -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        _run([*pip, *requirements])

    _made(folder, requirements, make)
    return folder / "bin"


def node(folder: Path, *packages: str, instead: Mapping[str, str] | None = None) -> Path:
    """The folder of the modules of these packages. ``instead``: versions of what they stand on that are to be taken, by
    name. Raises CannotInstall."""

    def make() -> None:
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"overrides": dict(instead or {})}))
        _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *packages], folder)

    _made(folder, (*packages, json.dumps(instead)), make)
    return folder / "node_modules"


def debian(folder: Path, *packages: str) -> Path:
    """A folder into which these packages were unpacked; nothing is installed on the machine. Raises CannotInstall."""

    def make() -> None:
        folder.mkdir(parents=True)
        _run(["apt-get", "download", "--quiet", *packages], folder)
        for file in sorted(folder.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(file), str(folder)])

    _made(folder, packages, make)
    return folder


def _made(folder: Path, what: Sequence[str], make: Callable[[], None]) -> None:
    mark, key = folder / "made", "\n".join(what)
    if mark.exists() and mark.read_text() == key:
        return
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Making {folder.name} from {', '.join(what)} …", file=sys.stderr, flush=True)
    make()
    mark.write_text(key)


def _run(command: Sequence[str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, env={**os.environ, "CI": "1"}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"{command[0]} could not be run: {error}") from error
    if done.returncode != 0:
        raise CannotInstall(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-500:]}")

"""The two programs in C, compiled at first use: a backend and a load generator much faster than what they measure."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.machine import BenchError

_SOURCES = Path(__file__).parent
_FLAGS = ("-O2", "-std=gnu11")
_COMPILE_S = 120


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are, and what compiled them."""

    backend: Path
    load: Path
    compiler: str


def compiled(folder: Path) -> Programs:
    """The programs, below ``folder``; compiled where they are not there yet. Raises BenchError without a C compiler."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise BenchError(
            f"no C compiler: {compiler[0]} is not on the path. Install one (Debian: gcc, libc6-dev), or name it in CC"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return Programs(_program("backend", folder, compiler), _program("load", folder, compiler), _said_by(compiler))


def _program(name: str, folder: Path, compiler: list[str]) -> Path:
    source = _SOURCES / f"{name}.c"
    key = hashlib.sha256(source.read_bytes() + repr((compiler, _FLAGS)).encode()).hexdigest()[:16]
    program = folder / f"{name}-{key}"
    if not program.exists():
        _compile(source, program, compiler)
    return program


def _compile(source: Path, program: Path, compiler: list[str]) -> None:
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [*compiler, *_FLAGS, "-o", str(unfinished), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_S)
    if done.returncode != 0:
        raise BenchError(f"{source.name} could not be compiled: {done.stderr.strip()[-1000:]}")
    unfinished.rename(program)  # whole or not there, also with two of us at once


def _said_by(compiler: list[str]) -> str:
    said = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=_COMPILE_S).stdout
    return said.partition("\n")[0]

"""The machine that is measured on: its cores and who sits on which, its name, and how busy its cores are."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Cores = frozenset[int]
_TICKS_S = os.sysconf("SC_CLK_TCK")
_PACKAGES = (
    "farebox",
    "uvicorn",
    "uvloop",
    "httptools",
    "starlette",
    "httpx",
    "aiohttp",
    "asyncpg",
    "redis",
    "hiredis",
    "msgspec",
)


class BenchError(Exception):
    """Something cannot be measured; the message says why."""


class Spoilt(BenchError):
    """What measures is broken: nothing after it can be believed."""


@dataclass(frozen=True, slots=True)
class Places:
    """Who sits on which cores: what is measured alone on its own, everything else elsewhere."""

    measured: Cores
    engines: Cores
    backend: Cores
    load: Cores

    @property
    def others(self) -> Cores:
        """Every core but that of what is measured."""
        return self.engines | self.backend | self.load


def places(cores: Cores) -> Places:
    """A core for what is measured; the backend and the load get one each where there are enough. Raises BenchError
    with one core: what is measured would wait for what measures."""
    *rest, last = sorted(cores)
    if not rest:
        raise BenchError("measuring takes two cores: one for the gateway, one for everything else")
    if len(rest) < 3:
        return Places(frozenset({last}), frozenset(rest), frozenset(rest[:1]), frozenset(rest[-1:]))
    load, backend, *engines = rest
    return Places(frozenset({last}), frozenset(engines), frozenset({backend}), frozenset({load}))


def allowed() -> Cores:
    """The cores this process may use. Raises BenchError where the system cannot say."""
    if sys.platform != "linux":
        raise BenchError("measuring needs Linux: processes are pinned to cores, and the load waits with epoll")
    return frozenset(os.sched_getaffinity(0))


@contextmanager
def sitting_on(cores: Cores) -> Iterator[None]:
    """While the block lasts, this thread and the processes it starts use these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_s(cores: Cores) -> float:
    """Seconds these cores have been busy since the machine began."""
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.removeprefix("cpu").isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:8])
            busy += user + nice + system + sum(interrupts)
    return busy / _TICKS_S


def description() -> dict[str, object]:
    """What somebody who compares figures has to know of this machine."""
    return {
        "processor": _first_value("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_kib": int(_first_value("/proc/meminfo", "MemTotal").split()[0]),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
    }


def _first_value(file: str, name: str) -> str:
    lines = Path(file).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0")


def versions() -> dict[str, str]:
    """Of Python and of the packages that work in a call."""
    found = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""

"""Processes that are started for measuring, on cores of their own, and what /proc tells of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.machine import BenchError, Cores, sitting_on

_TICKS_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_START_S = 120.0
_STOP_S = 30.0
_LOOK_S = 0.02
_AT_REST = 0.05


class Used(NamedTuple):
    """CPU time so far, and memory resident at the moment."""

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Started:
    """A process of ours, and the file that has what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def says(self, pattern: str, within_s: float = _START_S) -> re.Match[str]:
        """Wait until its output has this. Raises BenchError, with its last words, when it ends before or takes
        longer."""
        found = None

        def looked() -> bool:
            nonlocal found
            found = re.search(pattern, self.log.read_text(errors="replace"))
            return found is not None

        self._wait_until(looked, within_s)
        assert found is not None
        return found

    def answers(self, asked: Callable[[], bool], within_s: float = _START_S) -> None:
        """Wait until ``asked`` is true. Raises BenchError as ``says`` does."""
        self._wait_until(asked, within_s)

    def _wait_until(self, true: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{self.name} did not start: {self.last_words()}")
            time.sleep(_LOOK_S)

    def last_words(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-1500:].strip()


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    cores: Cores,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Started]:
    """A process on these cores, its output in ``log``; told to end with the block, and killed if it does not."""
    with log.open("wb") as out, sitting_on(cores):
        process = subprocess.Popen(
            list(command), env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield Started(Path(command[0]).name, process, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def family(pids: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (above := parent(int(entry.name))) is not None:
            children.setdefault(above, []).append(int(entry.name))
    found = list(pids)
    for pid in found:
        found += [child for child in children.get(pid, ()) if child not in found]
    return found


def parent(pid: int) -> int | None:
    """The process that started it, None where it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def used(pids: Iterable[int]) -> Used:
    """What these processes have used together; those that are gone count nothing."""
    cpu_ticks = pages = 0
    for pid in pids:
        if fields := _stat(pid):
            cpu_ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    return Used(cpu_ticks / _TICKS_S, pages * _PAGE_BYTES)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold blanks: the first is the state."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def living_in(folder: Path) -> list[int]:
    """The processes whose working folder is there, or below."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                cwd = (entry / "cwd").readlink()
            except OSError:
                continue
            if cwd.is_relative_to(folder):
                found.append(int(entry.name))
    return found


def quiet(pids: Sequence[int], within_s: float = 30.0, look_s: float = 0.2) -> None:
    """Wait, within bounds, until these processes use next to no CPU twice in a row: what a load left behind is worked
    off."""
    deadline, calm = time.monotonic() + within_s, 0
    before = used(pids).cpu_s
    while calm < 2 and time.monotonic() < deadline:
        time.sleep(look_s)
        after = used(pids).cpu_s
        calm = calm + 1 if after - before <= _AT_REST * look_s + 1 / _TICKS_S else 0
        before = after

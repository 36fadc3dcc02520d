"""The disk under the spools: it outlives every process, and a dead process's locks are gone with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ledger.hold import Settlement
from ledger.spool import Orphan, Spool, _line, _parsed
from simulation.loop import ACTOR, Actor


@dataclass
class File:
    """Lines as the real spool writes them, and who holds the lock."""

    lines: list[bytes] = field(default_factory=list)
    holder: Actor | None = None

    @property
    def locked(self) -> bool:
        return self.holder is not None and not self.holder.dead


class Disk:
    """One machine's. ``full``: nothing more can be written. ``refused`` is what the bank refused for itself."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.full = False
        self.refused: list[Settlement] = []

    @property
    def records(self) -> int:
        """Settlements that wait on the disk, whoever's."""
        return sum(len(file.lines) for file in self.files.values())


class MemorySpool(Spool):
    """The spool of one process on a ``Disk``."""

    def __init__(self, disk: Disk, owner: str) -> None:
        self._disk = disk
        self._name = owner
        self._mine = disk.files[owner] = File(holder=ACTOR.get())
        self.records = 0

    def append(self, events: Iterable[Settlement]) -> None:
        if self._disk.full:
            raise OSError("no space left on the disk")
        lines = [_line(event) for event in events]
        self._mine.lines += lines
        self.records += len(lines)

    def clear(self) -> None:
        self._mine.lines.clear()
        self.records = 0

    def set_apart(self, event: Settlement) -> None:
        self._disk.refused.append(event)

    def orphans(self) -> Iterator[tuple[Orphan, list[Settlement]]]:
        for name, file in sorted(self._disk.files.items()):
            if not file.locked:
                file.holder = ACTOR.get()
                parsed = [_parsed(line.rstrip(b"\n")) for line in file.lines]
                yield MemoryOrphan(self._disk, name), [event for event in parsed if event is not None]

    def close(self) -> None:
        self._mine.holder = None
        if not self._mine.lines:
            self._disk.files.pop(self._name, None)


class MemoryOrphan(Orphan):
    """A dead process's file."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name

    def remove(self) -> None:
        self._disk.files.pop(self._name, None)

    def leave(self) -> None:
        self._disk.files[self._name].holder = None

"""A spool survives its process on the disk, and whoever comes next takes it over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.hold import CallFacts
from ledger.ids import uuid7
from ledger.teller import void
from simulation.disk import Disk, MemorySpool
from simulation.loop import ACTOR, Actor

EVENT = void(uuid7(), uuid7(), CallFacts(user_id=uuid7(), tier="t", model="m", route="r"))


def spool_of(disk: Disk, actor: Actor) -> MemorySpool:
    token = ACTOR.set(actor)
    try:
        return MemorySpool(disk, actor.name)
    finally:
        ACTOR.reset(token)


def test_only_what_the_dead_left_is_taken_over() -> None:
    disk, old, new = Disk(), Actor("old"), Actor("new")
    spool_of(disk, old).append([EVENT])
    mine = spool_of(disk, new)
    assert list(mine.orphans()) == []
    old.dead = True
    [(orphan, events)] = mine.orphans()
    assert events == [EVENT] and EVENT.at <= datetime.now(UTC)
    orphan.remove()
    assert disk.records == 0


def test_a_full_disk_is_told() -> None:
    disk = Disk()
    disk.full = True
    with pytest.raises(OSError):
        spool_of(disk, Actor("a")).append([EVENT])


def test_a_closed_spool_leaves_its_records_and_no_empty_file() -> None:
    disk = Disk()
    spool = spool_of(disk, Actor("a"))
    spool.append([EVENT])
    assert (spool.records, disk.records) == (1, 1)
    spool.clear()
    spool.close()
    assert not disk.files

"""Records that only grow: a page begins behind the one before it, whatever was added meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from admin_api.house import AdminHouse
from admin_api.records import newest_first
from ledger.system_events import record
from ledger.tables import system_events
from tests.house import Farebox


async def test_pages_follow_each_other_and_nothing_that_is_added_moves_them(farebox: Farebox) -> None:
    known = system_events.c
    house = cast(AdminHouse, SimpleNamespace(engine=farebox.engine))
    bounds: dict[str, Any] = {"equal": {known.event: "test.one", known.level: None}, "since": None, "until": None}
    fetch = newest_first(house, (known.id, known.detail), place=known.id, at=known.at, **bounds)
    for number in range(3):
        await record(farebox.engine, "info", "test.one", number=number)
    await record(farebox.engine, "info", "test.two")
    first = await fetch(None, 2)
    assert [row.detail["number"] for row in first] == [2, 1]
    await record(farebox.engine, "error", "test.one", number=3)
    assert [row.detail["number"] for row in await fetch((first[-1].id,), 2)] == [0]

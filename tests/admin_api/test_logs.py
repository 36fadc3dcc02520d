"""System events over HTTP."""

from __future__ import annotations

import pytest

from ledger.system_events import record
from tests.house import Admin, Farebox


@pytest.fixture
async def events(farebox: Farebox) -> Admin:
    """Three events, and whatever the start of a Farebox left."""
    for level, event in (("info", "test.one"), ("error", "test.two"), ("info", "test.two")):
        await record(farebox.engine, level, event, users=3)  # type: ignore[arg-type]
    return farebox.admin


async def test_events_come_newest_first_with_their_details(events: Admin) -> None:
    data = (await events.read("/logs", limit=3))["data"]
    assert [(row["level"], row["event"]) for row in data] == [
        ("info", "test.two"),
        ("error", "test.two"),
        ("info", "test.one"),
    ]
    assert data[0]["detail"] == {"users": 3}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"event": "test.two"}, 2),
        ({"level": "error", "event": "test.two"}, 1),
        ({"event": "test.one", "since": "2020-01-01T00:00:00Z"}, 1),
        ({"until": "2020-01-01T00:00:00Z"}, 0),
    ],
    ids=str,
)
async def test_events_are_found_by_level_name_and_time(events: Admin, query: dict[str, str], found: int) -> None:
    assert len((await events.read("/logs", **query))["data"]) == found


async def test_a_level_nobody_knows_is_a_wrong_parameter(events: Admin) -> None:
    answer = await events.get("/logs", level="loud")
    assert answer.status == 422 and answer.json()["errors"][0]["parameter"] == "level"


async def test_pages_and_files_have_every_event(events: Admin) -> None:
    first = await events.read("/logs", limit=1, event="test.two")
    second = await events.read("/logs", limit=1, event="test.two", cursor=first["next_cursor"])
    assert second["next_cursor"] is None and first["data"] != second["data"]
    answer = await events.get("/logs", format="csv", event="test.two")
    assert len(answer.body.splitlines()) == 3

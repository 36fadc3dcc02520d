"""System events over HTTP: what Farebox did by itself, and what of it failed."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import Row

from admin_api.access import Reader
from admin_api.house import House
from admin_api.paging import Paging, listed
from admin_api.records import newest_first
from admin_api.wire import Instant, Page, Reply, Text
from ledger.system_events import Level
from ledger.tables import system_events

router = APIRouter(prefix="/v1/logs", tags=["logs"])


class EventReply(Reply):
    """One thing the system did by itself."""

    id: UUID = Field(description="Its id.", examples=["0198f2a1-7c1e-7d50-9a51-3f6de0a5a9b1"])
    at: Instant = Field(description="When.")
    level: Level = Field(description="How bad it is.", examples=["info"])
    event: str = Field(description="What it was.", examples=["tiers.changed"])
    detail: dict[str, Any] = Field(description="More about it.", examples=[{"users": 3}])

    @classmethod
    def of(cls, row: Row[Any]) -> EventReply:
        return cls(**row._mapping)


_COLUMNS = tuple(system_events.c[name] for name in EventReply.model_fields)


@router.get("", operation_id="list_logs", summary="List system events", **listed(EventReply))
async def list_logs(
    house: House,
    caller: Reader,
    paging: Paging,
    level: Annotated[Level | None, Query(description="Only this level.")] = None,
    event: Annotated[Text | None, Query(description="Only this event.", examples=["tiers.changed"])] = None,
    since: Annotated[Instant | None, Query(description="From this instant on.")] = None,
    until: Annotated[Instant | None, Query(description="Before this instant.")] = None,
) -> Page[EventReply] | Response:
    """What the system did by itself, newest first."""
    known = system_events.c
    equal = {known.level: level, known.event: event}
    fetch = newest_first(house, _COLUMNS, place=known.id, at=known.at, equal=equal, since=since, until=until)
    return await paging.answer(
        "logs", fetch, key=lambda row: (row.id,), types=(UUID,), shape=EventReply.of, model=EventReply
    )

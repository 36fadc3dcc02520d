"""What the system did by itself, for those who administer it: synchronisations, resets, jobs that failed."""

from __future__ import annotations

import logging
from typing import Any, Literal

import asyncpg
import msgspec
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ledger.audit import driver
from ledger.ids import uuid7

Level = Literal["info", "warning", "error"]

_log = logging.getLogger("farebox.events")

_RECORD = "INSERT INTO system_events (id, level, event, detail) VALUES ($1, $2, $3, $4::text::jsonb)"


async def record(where: AsyncEngine | AsyncConnection | Any, level: Level, event: str, **detail: Any) -> None:
    """One event, with details JSON can say. Inside a transaction (SQLAlchemy's or asyncpg's connection) it is part of
    it; on an engine it stands alone, and a database that is away is logged, not raised: the event goes on."""
    if isinstance(where, AsyncEngine):
        await _record_alone(where, level, event, detail)
    elif isinstance(where, AsyncConnection):
        await _insert(await driver(where), level, event, detail)
    else:
        await _insert(where, level, event, detail)


async def _record_alone(engine: AsyncEngine, level: Level, event: str, detail: dict[str, Any]) -> None:
    try:
        async with engine.begin() as connection:
            await record(connection, level, event, **detail)
    except (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as away:
        _log.warning("event not recorded", extra={"event_name": event, "detail": detail, "reason": repr(away)})


async def _insert(connection: Any, level: Level, event: str, detail: dict[str, Any]) -> None:
    text = msgspec.json.encode(detail).decode().replace("\\u0000", "\\ufffd")
    await connection.execute(_RECORD, uuid7(), level, event, text)

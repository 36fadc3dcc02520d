"""System events: part of the transaction they are told in, or alone; never in the way."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.engine import make_engine
from ledger.system_events import record
from tests.ledger.till import Till


async def _events(till: Till) -> list[tuple[str, str, str]]:
    return [tuple(row) for row in await till.sql("SELECT level, event, detail::text FROM system_events ORDER BY id")]


async def test_an_event_stands_alone_on_an_engine(till: Till, engine: AsyncEngine) -> None:
    await record(engine, "info", "catalog.read", models=3, of=uuid4().hex[:0], text="a\0b")
    assert await _events(till) == [("info", "catalog.read", '{"of": "", "text": "a\ufffdb", "models": 3}')]


async def test_an_event_of_a_transaction_goes_with_it(till: Till, engine: AsyncEngine) -> None:
    with pytest.raises(ZeroDivisionError):
        async with engine.begin() as connection:
            await record(connection, "warning", "lost")
            raise ZeroDivisionError
    async with engine.begin() as connection:
        await record(connection, "warning", "kept")
    async with engine.connect() as pooled:
        driver = (await pooled.get_raw_connection()).driver_connection
        assert driver is not None
        async with driver.transaction():
            await record(driver, "error", "raw")
    assert {event[:2] for event in await _events(till)} == {("warning", "kept"), ("error", "raw")}


async def test_a_database_that_is_away_is_logged_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere")
    with caplog.at_level(logging.WARNING, "farebox.events"):
        await record(engine, "error", "job.failed", job="sync")
    assert "event not recorded" in caplog.text
    await engine.dispose()


async def test_a_level_nobody_knows_is_refused_in_a_transaction(engine: AsyncEngine) -> None:
    with pytest.raises(Exception, match="level"):
        async with engine.begin() as connection:
            await record(connection, "fatal", "x")  # type: ignore[arg-type]

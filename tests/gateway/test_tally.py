"""Refusals by the hour: counted at once, added now and then, kept while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway import tally as module
from gateway.tally import Tally
from tests import house
from tests.backend import Backend


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


async def counted(engine: AsyncEngine) -> dict[tuple[str, str], int]:
    query = text("SELECT code, tier, sum(refusals)::int FROM refusals_by_hour GROUP BY code, tier")
    async with engine.connect() as connection:
        return {(row[0], row[1]): row[2] for row in await connection.execute(query)}


async def test_what_is_counted_is_added_to_what_is_there(engine: AsyncEngine) -> None:
    one, other = Tally(engine), Tally(engine)
    for tally in (one, other):
        for _ in range(3):
            tally.count("rate_limit_requests", "free")
        tally.count("insufficient_balance", "pro")
    await asyncio.gather(one.flush(), other.flush())
    await one.flush()
    assert await counted(engine) == {("rate_limit_requests", "free"): 6, ("insufficient_balance", "pro"): 2}


async def test_a_running_tally_adds_by_itself_and_at_its_end(engine: AsyncEngine) -> None:
    tally = Tally(engine, every_s=0.01)
    tally.start()
    tally.count("draining", "free")
    async with asyncio.timeout(30):
        while not await counted(engine):
            await asyncio.sleep(0.01)
    late = Tally(engine)
    late.start()
    late.count("draining", "free")
    await late.stop()
    await tally.stop()
    assert await counted(engine) == {("draining", "free"): 2}


async def test_while_the_database_is_away_it_is_kept(engine: AsyncEngine) -> None:
    tally = Tally(engine)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE refusals_by_hour RENAME TO gone"))
    tally.count("internal", "free")
    await tally.flush()
    tally.count("internal", "free")
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE gone RENAME TO refusals_by_hour"))
    await tally.flush()
    assert await counted(engine) == {("internal", "free"): 2}


async def test_names_are_bounded(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NAMES_MAX", 2)
    tally = Tally(engine)
    for tier in ("one", "two", "three", "one"):
        tally.count("draining", tier)
    await tally.flush()
    assert await counted(engine) == {("draining", "one"): 2, ("draining", "two"): 1}


async def test_refusals_of_real_calls_are_in_it_and_answers_are_not(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend, engine: AsyncEngine
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:
        ada = await farebox.caller(usd="1.00")
        assert (await farebox.chat(ada)).status == 200
        assert (await farebox.chat(ada, model="nobody")).status == 404
        assert (await farebox.chat({"authorization": "Bearer wrong"})).status == 401
        assert (await farebox.chat(await farebox.caller(usd="0"), model="flat")).status == 402
    assert await counted(engine) == {
        ("model_not_found", "paid"): 1,
        ("invalid_api_key", "unknown"): 1,
        ("insufficient_balance", "paid"): 1,
    }

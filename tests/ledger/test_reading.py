"""Plain reading from the engine's pool."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.reading import fetch, reader


async def test_a_query_answers_with_its_rows(engine: AsyncEngine) -> None:
    assert [row["n"] for row in await fetch(engine, "SELECT generate_series(1, $1) AS n", 3)] == [1, 2, 3]


async def test_a_reader_serves_several_queries_and_goes_back_to_the_pool(engine: AsyncEngine) -> None:
    for _ in range(20):
        async with reader(engine) as driver:
            assert await driver.fetchval("SELECT 1") + await driver.fetchval("SELECT 2") == 3

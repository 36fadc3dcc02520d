"""Reading what the ledger says, for lists and statistics: plain queries, outside of any transaction of the bank."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine


@asynccontextmanager
async def reader(engine: AsyncEngine) -> AsyncIterator[Any]:
    """An asyncpg connection out of the engine's pool, for several queries. Raises what the driver raises."""
    async with engine.connect() as pooled:
        driver = (await pooled.get_raw_connection()).driver_connection
        assert driver is not None
        yield driver


async def fetch(engine: AsyncEngine, query: str, *args: Any) -> list[Any]:
    """The rows of one query. Raises what the driver raises."""
    async with reader(engine) as driver:
        return list(await driver.fetch(query, *args))

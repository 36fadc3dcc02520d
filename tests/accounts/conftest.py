"""What the tests of this room share: an engine on the test's own database, accounts on it, and what was recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from accounts.store_sql import Accounts

Rows = Callable[[str], Awaitable[list[tuple[Any, ...]]]]
Recorded = Callable[[], Awaitable[list[tuple[Any, ...]]]]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url, pool_size=16)
    yield engine
    await engine.dispose()


@pytest.fixture
def accounts(engine: AsyncEngine) -> Accounts:
    return Accounts(engine, pepper=b"p" * 32, default_tier="free")


@pytest.fixture
def rows(engine: AsyncEngine) -> Rows:
    """``await rows(statement)``: what the statement gives, committed."""

    async def run(statement: str) -> list[tuple[Any, ...]]:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    return run


@pytest.fixture
def recorded(rows: Rows) -> Recorded:
    """``await recorded()``: the audit so far, as (action, target, actor, before, after)."""

    async def read() -> list[tuple[Any, ...]]:
        return await rows("SELECT action, target_id, actor, before, after FROM audit ORDER BY seq")

    return read

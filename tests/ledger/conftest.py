"""What the tests of the ledger share: an engine and a till on the test's own database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.store_sql import make_engine
from tests.ledger.till import Till


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    yield engine
    await engine.dispose()


@pytest.fixture
async def till(engine: AsyncEngine) -> Till:
    return await Till.open(engine)

"""What the tests of this room share: an engine on the test's own database, and accounts on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from accounts.store_sql import Accounts


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url, pool_size=16)
    yield engine
    await engine.dispose()


@pytest.fixture
def accounts(engine: AsyncEngine) -> Accounts:
    return Accounts(engine, pepper=b"p" * 32, default_tier="free")

"""What the tests of the ledger share: an engine and a till on the test's own database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import settings
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.store_sql import make_engine
from tests.ledger.till import Till

# How long an example takes says nothing on a machine that others use, too.
settings.register_profile("farebox", deadline=None)
settings.load_profile("farebox")


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    yield engine
    await engine.dispose()


@pytest.fixture
async def till(engine: AsyncEngine) -> Till:
    return await Till.open(engine)

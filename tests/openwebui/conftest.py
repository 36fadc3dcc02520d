"""What the tests of this room share: an Open WebUI, and an engine with accounts on the test's own database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store_sql import Accounts
from config.parts import OpenWebUI as OpenWebUISettings
from ledger.store_sql import make_engine
from openwebui.sync import Sync
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI

SERVICE_URL = "http://farebox.example:8080/v1"
Rows = Callable[[str], Awaitable[list[tuple[Any, ...]]]]
MakeSync = Callable[..., Sync]


@pytest.fixture
async def there() -> AsyncIterator[FakeOpenWebUI]:
    """An Open WebUI with an administrator in it."""
    async with FakeOpenWebUI().running() as running:
        yield running


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = make_engine(database_url, size=4, command_timeout_s=60, lock_timeout_ms=30_000, name="test")
    yield made
    await made.dispose()


@pytest.fixture
def accounts(engine: AsyncEngine) -> Accounts:
    return Accounts(engine, pepper=b"p" * 32, default_tier="free")


@pytest.fixture
def make_sync(there: FakeOpenWebUI, engine: AsyncEngine, accounts: Accounts) -> MakeSync:
    """``make_sync()``: what syncs with ``there``; its settings may differ."""

    def make(**settings: Any) -> Sync:
        told = OpenWebUISettings(**{"url": there.url, "admin_key": ADMIN_KEY, **settings})
        return Sync(told, engine=engine, accounts=accounts, default_tier="free", service_url=SERVICE_URL)

    return make


@pytest.fixture
def rows(engine: AsyncEngine) -> Rows:
    """``await rows(statement)``: what the statement gives, committed."""

    async def run(statement: str) -> list[tuple[Any, ...]]:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    return run

"""A month's table is made beside its parent, and attached with the keys and indexes of any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from farebox.seed_tables import attach, index, table_of
from ledger.reading import reader


@pytest.fixture
async def driver(database_url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(database_url)
    async with reader(engine) as driver:
        yield driver
    await engine.dispose()


async def test_a_month_nobody_used_gets_a_table_of_its_own_and_becomes_a_partition(driver: Any) -> None:
    table = await table_of(driver, "charges", "_200001")
    assert table == "charges_200001"
    await index(driver, "charges", table)
    await attach(driver, "charges", table, datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 2, 1, tzinfo=UTC))
    kept = await driver.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = 'charges_200001'::regclass")
    assert kept == await driver.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = 'charges_default'::regclass")
    loose = await driver.fetchval(
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE indrelid = 'charges_200001'::regclass AND NOT relispartition"
    )
    assert loose == 0, "every index belongs to one of the parent's"


async def test_a_month_that_is_there_is_filled_through_its_parent(driver: Any) -> None:
    month = datetime.now(UTC).strftime("_%Y%m")
    assert await table_of(driver, "postings", month) == "postings"

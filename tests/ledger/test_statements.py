"""Every statement of the bank is one that the migrated database understands."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger import statements

_ALL = {name: text for name, text in vars(statements).items() if name.isupper()}


@pytest.mark.parametrize("name", sorted(_ALL))
async def test_a_statement_prepares_on_the_migrated_schema(name: str, engine: AsyncEngine) -> None:
    async with engine.connect() as pooled:
        driver = (await pooled.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.prepare(_ALL[name])

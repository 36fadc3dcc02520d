"""The tables are as the migrations make them."""

from __future__ import annotations

import pytest
from sqlalchemy import Table, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from openwebui.tables import openwebui_groups, openwebui_models, openwebui_people, openwebui_syncs


@pytest.mark.parametrize("table", [openwebui_people, openwebui_groups, openwebui_models, openwebui_syncs], ids=str)
async def test_columns_are_those_of_the_database(engine: AsyncEngine, table: Table) -> None:
    async with engine.connect() as connection:
        found = await connection.run_sync(lambda plain: inspect(plain).get_columns(table.name))
        keys = await connection.run_sync(lambda plain: inspect(plain).get_pk_constraint(table.name))
    assert {each["name"]: str(each["type"]) for each in found}.keys() == {each.name for each in table.columns}
    assert keys["constrained_columns"] == [each.name for each in table.primary_key]

"""The declared tables are the migrated ones, column by column."""

from __future__ import annotations

import pytest
from sqlalchemy import Table, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger import tables

_TABLES = [value for value in vars(tables).values() if isinstance(value, Table)]


@pytest.mark.parametrize("table", _TABLES, ids=lambda table: table.name)
async def test_a_declared_table_is_the_migrated_one(table: Table, engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        columns = await connection.run_sync(lambda sync: inspect(sync).get_columns(table.name))
        key = await connection.run_sync(lambda sync: inspect(sync).get_pk_constraint(table.name))
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    migrated = {column["name"]: column["type"].compile(dialect) for column in columns}
    assert {column.name: column.type.compile(dialect) for column in table.columns} == migrated
    assert [column.name for column in table.primary_key.columns] == key["constrained_columns"]


def test_every_declared_table_is_on_the_one_metadata() -> None:
    assert len(_TABLES) == 12
    assert all(table.metadata is tables.metadata for table in _TABLES)

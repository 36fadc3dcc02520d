"""The declarations agree with the tables the migrations make."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Table, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from admin_api.tables import admin_logins, admin_sessions, admins


@pytest.mark.parametrize("table", [admins, admin_sessions, admin_logins], ids=lambda table: table.name)
async def test_a_declared_table_has_the_databases_columns(engine: AsyncEngine, table: Table) -> None:
    def columns(connection: Connection) -> set[str]:
        return {column["name"] for column in inspect(connection).get_columns(table.name)}

    async with engine.connect() as connection:
        assert await connection.run_sync(columns) == set(table.c.keys())

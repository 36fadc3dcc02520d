"""Absence, told from mistakes."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from accounts.store import AccountsUnavailable
from admin_api.away import is_away
from ledger.store import BankUnavailable
from ledger.store_sql import make_engine


@pytest.mark.parametrize("error", [BankUnavailable("x"), AccountsUnavailable("x"), OSError("x"), TimeoutError()])
def test_what_the_stores_say_of_an_absent_database_is_absence(error: Exception) -> None:
    assert is_away(error)


async def caught(url: str, statement: str) -> BaseException:
    """What a statement raises."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(statement))
    except (SQLAlchemyError, OSError, asyncpg.PostgresError) as error:
        return error
    finally:
        await engine.dispose()
    raise AssertionError("nothing was raised")


async def test_a_database_nobody_serves_is_away() -> None:
    assert is_away(await caught("postgresql+asyncpg://nobody@127.0.0.1:1/none", "SELECT 1"))


async def test_a_connection_that_was_cut_is_away(database_url: str) -> None:
    assert is_away(await caught(database_url, "SELECT pg_terminate_backend(pg_backend_pid())"))


async def test_a_statement_that_takes_too_long_is_away(database_url: str) -> None:
    engine = make_engine(database_url, command_timeout_s=1)
    try:
        with pytest.raises(TimeoutError) as error:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT pg_sleep(5)"))
    finally:
        await engine.dispose()
    assert is_away(error.value)


@pytest.mark.parametrize(
    "statement", ["SELECT nothing", "SELECT 1/0", "SELECT 'x'::int", "INSERT INTO admins DEFAULT VALUES"]
)
async def test_a_mistake_of_ours_is_no_absence(database_url: str, statement: str) -> None:
    assert not is_away(await caught(database_url, statement))


def test_a_defect_is_no_absence() -> None:
    assert not is_away(KeyError("x"))

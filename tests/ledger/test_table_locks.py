"""Tables are had soon or not at all: whoever comes meanwhile does not wait long."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from ledger.seal import session
from ledger.table_locks import TablesBusy, take_tables
from tests.ledger.till import Till


async def test_tables_are_had_until_the_transaction_ends(till: Till) -> None:
    async with session(till.engine) as connection, session(till.engine) as other:
        async with connection.transaction():
            await take_tables(connection, "wallets", "grants")
            assert await connection.fetchval("SHOW statement_timeout") == await other.fetchval("SHOW statement_timeout")
            reading = asyncio.create_task(other.fetchval("SELECT count(*) FROM grants"))
            await asyncio.sleep(0.1)
            assert not reading.done()
        assert await reading == 0


async def test_a_table_somebody_reads_is_not_waited_for_long(till: Till) -> None:
    async with session(till.engine) as connection, session(till.engine) as other, other.transaction():
        await other.fetchval("SELECT count(*) FROM grants")
        with pytest.raises(TablesBusy):
            async with connection.transaction():
                await take_tables(connection, "wallets", "grants")
        assert await connection.fetchval("SELECT count(*) FROM wallets") == 0


async def test_a_weaker_lock_lets_readers_pass(till: Till) -> None:
    async with session(till.engine) as connection, session(till.engine) as other, connection.transaction():
        await take_tables(connection, "grants", mode="SHARE ROW EXCLUSIVE")
        assert await other.fetchval("SELECT count(*) FROM grants") == 0
        await other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("DELETE FROM grants")
        await other.execute("RESET lock_timeout")


async def test_a_table_that_is_not_there_is_an_error(till: Till) -> None:
    async with session(till.engine) as connection:
        with pytest.raises(asyncpg.UndefinedTableError):
            async with connection.transaction():
                await take_tables(connection, "nothing")

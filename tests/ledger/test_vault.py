"""A bank that is away is unavailable, whatever the way; and back as soon as it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import make_url

from ledger.store import BankUnavailable
from ledger.store_sql import PostgresBank, make_engine
from tests.ledger.proxy import Wire
from tests.ledger.till import Till, statuses


class TestAway:
    @pytest.fixture
    async def wire(self, database_url: str) -> AsyncIterator[Wire]:
        wire = Wire(database_url)
        await wire.mend()
        yield wire
        await wire.cut()

    async def test_a_bank_that_cannot_be_reached_is_unavailable_and_comes_back(self, till: Till, wire: Wire) -> None:
        wallet = await till.wallet(100)
        engine = make_engine(wire.url, size=2)
        bank = PostgresBank(engine, owner="replica-1")
        try:
            await bank.ping()
            await wire.cut()
            for request in (bank.ping(), bank.open_holds([till.ask(wallet, 10)]), bank.reap(), bank.sign_in()):
                with pytest.raises(BankUnavailable):
                    await request
            await wire.mend()
            await bank.ping()
            assert statuses(await bank.open_holds([till.ask(wallet, 10)])) == ["ok"]
        finally:
            await engine.dispose()

    async def test_connections_the_server_ended_are_replaced_without_a_refusal(self, till: Till) -> None:
        wallet = await till.wallet(100)
        await asyncio.gather(*(till.bank.ping() for _ in range(8)))
        other = await asyncpg.connect(str(till.engine.url.render_as_string(False)).replace("+asyncpg", ""))
        await other.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other.close()
        await asyncio.sleep(0.05)
        replies = await asyncio.gather(*(till.bank.open_holds([till.ask(wallet, 1)]) for _ in range(8)))
        assert {status for reply in replies for status in statuses(reply)} <= {"ok", "busy"}

    async def test_a_bank_that_may_only_be_read_is_unavailable(self, till: Till, database_url: str) -> None:
        wallet = await till.wallet(100)
        name = till.engine.url.database
        await till.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        engine = make_engine(database_url, size=1)
        bank = PostgresBank(engine, owner="replica-1")
        try:
            for request in (bank.ping(), bank.open_holds([till.ask(wallet, 10)])):
                with pytest.raises(BankUnavailable):
                    await request
        finally:
            await engine.dispose()

    async def test_a_database_that_is_not_there_is_unavailable(self, database_url: str) -> None:
        absent = make_url(database_url).set(database="no_such_database").render_as_string(hide_password=False)
        engine = make_engine(absent, size=1)
        try:
            with pytest.raises(BankUnavailable):
                await PostgresBank(engine, owner="x").ping()
        finally:
            await engine.dispose()

    async def test_no_free_connection_in_time_is_unavailable(self, till: Till, database_url: str) -> None:
        engine = make_engine(database_url, size=1, command_timeout_s=2)
        try:
            async with engine.connect():
                with pytest.raises(BankUnavailable):
                    await PostgresBank(engine, owner="x").ping()
        finally:
            await engine.dispose()

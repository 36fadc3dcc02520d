"""An engine's statements are bounded in time, and speak of instants in UTC."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from ledger.engine import make_engine
from ledger.store import BankBusy
from ledger.store_sql import PostgresBank
from tests.ledger.till import Till, locked


async def test_a_connection_is_told_its_name_its_zone_and_its_bounds(database_url: str) -> None:
    engine = make_engine(database_url, size=1, command_timeout_s=2.0, lock_timeout_ms=70, name="farebox test")
    names = ("application_name", "timezone", "lock_timeout", "idle_in_transaction_session_timeout")
    async with engine.connect() as connection:
        told = [await connection.scalar(text(f"SHOW {name}")) for name in names]
    await engine.dispose()
    assert told == ["farebox test", "UTC", "70ms", "3s"]


async def test_a_statement_that_takes_too_long_ends(database_url: str) -> None:
    engine = make_engine(database_url, size=1, command_timeout_s=2)
    async with engine.connect() as connection:
        with pytest.raises(TimeoutError):
            await connection.execute(text("SELECT pg_sleep(20)"))
        await connection.invalidate()
    await engine.dispose()


async def test_a_credit_waits_for_a_locked_wallet_no_longer_than_the_lock_bound(till: Till, database_url: str) -> None:
    wallet = await till.wallet(100)
    engine = make_engine(database_url, size=1, lock_timeout_ms=50)
    try:
        async with locked(till.engine, wallet):
            with pytest.raises(BankBusy):
                await PostgresBank(engine, owner="x").credit(wallet, 1, "paid", source="s", funding="cash:test")
    finally:
        await engine.dispose()

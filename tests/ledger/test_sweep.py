"""The sweeper reaps, releases and counts replicas, round after round, whatever one round meets."""

from __future__ import annotations

import asyncio

import pytest

from ledger.store import BankUnavailable
from ledger.store_sql import PostgresBank
from ledger.sweep import Sweeper
from tests.ledger.old_months import ago, clock_in
from tests.ledger.till import Till, until


class Troubled(PostgresBank):
    """The bank, with ``trouble`` for who signs in or reaps."""

    trouble: Exception | None = None

    async def sign_in(self) -> int:
        if isinstance(self.trouble, BankUnavailable):
            raise self.trouble
        return await super().sign_in()

    async def reap(self) -> int:
        if self.trouble is not None:
            raise self.trouble
        return await super().reap()


async def test_a_silent_call_is_charged_then_freed(till: Till) -> None:
    wallet = await till.wallet(100)
    ask = await till.hold(wallet, 40, bank=till.replica("gone", ttl_s=0.1, horizon_s=0.4))
    sweeper = Sweeper(till.bank, round_s=0.02)
    sweeper.start()

    async def settled() -> bool:
        return await till.state(ask) == "settled"

    await until(settled)
    await sweeper.stop()
    assert sweeper.reaped == 1 and (await till.balance(wallet)).available == 100
    assert await till.broken() == []


async def test_replicas_are_counted_each_round(till: Till) -> None:
    sweeper = Sweeper(till.bank)
    await till.replica("replica-2").sign_in()
    assert sweeper.live_replicas == 1
    await sweeper.round()
    assert sweeper.live_replicas == 2


async def test_a_round_without_the_bank_is_put_off_and_the_count_stays(
    till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    bank = Troubled(till.engine, owner="replica-1")
    sweeper = Sweeper(bank)
    await till.replica("replica-2").sign_in()
    await sweeper.round()
    bank.trouble = BankUnavailable("away")
    await sweeper.round()
    assert sweeper.live_replicas == 2 and "put off" in caplog.text


async def test_after_a_time_without_the_bank_silent_calls_are_heard_first(till: Till) -> None:
    ask = await till.hold(await till.wallet(100), 40)
    await till.past(ask, "expires_at")
    bank = Troubled(till.engine, owner="replica-1")
    sweeper = Sweeper(bank)
    bank.trouble = BankUnavailable("away")
    await sweeper.round()
    bank.trouble = None
    await sweeper.round()
    assert (sweeper.reaped, await till.state(ask)) == (0, "open")
    for _ in range(3):
        await sweeper.round()
    assert (sweeper.reaped, await till.state(ask)) == (1, "quarantine")


async def test_an_unforeseen_failure_is_reported_and_the_next_step_runs(
    till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    bank = Troubled(till.engine, owner="replica-1")
    bank.trouble = RuntimeError("unforeseen")
    ask = await till.hold(await till.wallet(100), 40)
    await till.past(ask, "expires_at")
    await till.bank.reap()
    await till.past(ask, "release_at")
    await Sweeper(bank).round()
    assert await till.state(ask) == "settled" and "sweep failed" in caplog.text


async def test_months_and_drift_are_looked_at_from_the_first_round_on(till: Till) -> None:
    wallet = await till.wallet(100)
    await till.sql("UPDATE wallets SET spendable = 95 WHERE id = $1", wallet)
    for table in ("holds", "charges", "journal_entries", "postings"):
        last = await till.value(
            "SELECT max(inhrelid::regclass::text) FROM pg_inherits "
            f"WHERE inhparent = '{table}'::regclass AND inhrelid::regclass::text <> '{table}_default'"
        )
        await till.sql(f"DROP TABLE {last}")
    sweeper = Sweeper(till.bank)
    sweeper.start()
    async with asyncio.timeout(30):
        while not sweeper.drift:
            await asyncio.sleep(0.01)
    await sweeper.stop()
    assert sweeper.drift == 5
    assert await till.bank.make_months(2) == 0


async def test_rows_outside_their_months_raise_an_alarm_once(till: Till, caplog: pytest.LogCaptureFixture) -> None:
    with clock_in(ago(4)):
        await till.charge(await till.wallet(100), 30)
    sweeper = Sweeper(till.bank, round_s=0.001)
    sweeper.start()
    async with asyncio.timeout(30):
        while sweeper.strays == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # looked at again many times
    await sweeper.stop()
    assert sweeper.strays == 8
    [record] = [record for record in caplog.records if record.message == "rows outside their months"]
    assert record.levelname == "ERROR"


async def test_a_sweeper_that_never_started_stops(till: Till) -> None:
    await Sweeper(till.bank).stop()

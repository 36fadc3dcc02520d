"""The bank's upkeep: months ahead, replicas that live, drift."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from ledger import months
from ledger.seal import session
from ledger.system_events import record
from tests.ledger.old_months import ago, clock_in
from tests.ledger.till import Till


class TestMonths:
    async def test_months_are_made_ahead_and_only_once(self, till: Till) -> None:
        assert await till.bank.make_months(2) == 0
        assert await till.bank.make_months(4) == 8
        assert await till.bank.make_months(4) == 0

    async def test_todays_calls_land_in_their_month(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 60)
        await till.bank.close([till.event(ask, 25)])
        month = f"{datetime.now(UTC):%Y%m}"
        for table in ("holds", "charges", "journal_entries", "postings"):
            assert await till.value(f"SELECT count(*) FROM {table}_default") == 0
            assert await till.value(f"SELECT count(*) FROM {table}_{month}") > 0

    async def test_a_month_made_later_is_guarded_like_the_first(self, till: Till) -> None:
        await till.bank.make_months(3)
        last = await till.value(
            "SELECT max(inhrelid::regclass::text) FROM pg_inherits "
            "WHERE inhparent = 'postings'::regclass AND inhrelid::regclass::text <> 'postings_default'"
        )
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await till.sql(f"TRUNCATE {last}")
        floor = await till.value(f"SELECT uuid7_floor(to_timestamp('{last[-6:]}', 'YYYYMM'))")
        with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
            await till.sql(f"INSERT INTO {last} (entry_id, line, account, amount) VALUES ($1, 0, 'a', 5)", floor)

    async def test_a_month_the_default_partition_took_in_keeps_no_other_from_being_made(self, till: Till) -> None:
        early = await till.value(
            "SELECT uuid7_floor(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '3 months')"
        )
        ask = till.ask(await till.wallet(), 0)
        await till.sql(
            "INSERT INTO holds (id, wallet_id, amount, price_version, factor_ppm, facts, owner, expires_at, "
            "release_at) VALUES ($1, $2, 0, 1, 1, '{}', 'x', now(), now())",
            early,
            ask.wallet_id,
        )
        assert await till.bank.make_months(4) == 7

    async def test_a_process_that_was_off_for_months_begins_with_those_it_needs(self, till: Till) -> None:
        for count in (-2, -1, 0, 1):
            for table in months.tables(ago(count)):
                await till.sql(f"DROP TABLE {table}")
        assert await till.bank.make_months() == 16
        with clock_in(ago(1)):  # a clock that is behind, in the first moments of a month
            await till.charge(await till.wallet(100), 30)
        await till.charge(await till.wallet(100), 30)
        assert await till.bank.strays() == 0

    async def test_replicas_that_make_them_at_once_do_not_stumble(self, till: Till) -> None:
        for table in months.tables(ago(0)):
            await till.sql(f"DROP TABLE {table}")
        made = await asyncio.gather(*(till.replica(f"replica-{n}").make_months(3) for n in range(5)))
        assert sorted(made) == [0, 0, 0, 0, 8]

    async def test_a_long_reader_puts_a_month_off_and_keeps_nobody_waiting(self, till: Till) -> None:
        async with session(till.engine) as reader, reader.transaction():
            await reader.fetchval("SELECT count(*) FROM charges")
            assert await till.bank.make_months(3) == 3
        assert await till.bank.make_months(3) == 1

    async def test_rows_outside_their_months_are_counted(self, till: Till) -> None:
        assert await till.bank.strays() == 0
        with clock_in(ago(4)):
            await till.charge(await till.wallet(100), 30)
        assert await till.bank.strays() == 8


class TestForgetting:
    async def test_old_events_go_by_their_age_and_the_others_stay(self, till: Till) -> None:
        for event in ("old", "young"):
            await record(till.engine, "info", event)
        assert await till.bank.forget() == 0
        await till.sql("UPDATE system_events SET id = uuid7_floor(now() - interval '181 days') WHERE event = 'old'")
        assert await till.bank.forget() == 1
        assert [row["event"] for row in await till.sql("SELECT event FROM system_events")] == ["young"]

    async def test_replicas_that_were_killed_are_forgotten(self, till: Till) -> None:
        await till.bank.sign_in()
        await till.sql("INSERT INTO replicas (id, beat_at) VALUES ('killed', now() - interval '25 hours')")
        assert await till.bank.forget() == 1
        assert await till.value("SELECT count(*) FROM replicas") == 1


class TestReplicas:
    async def test_replicas_that_signed_in_lately_are_counted(self, till: Till) -> None:
        other = till.replica("replica-2")
        assert [await till.bank.sign_in(), await other.sign_in(), await till.bank.sign_in()] == [1, 2, 2]
        await till.sql("UPDATE replicas SET beat_at = now() - interval '1 minute' WHERE id = 'replica-2'")
        assert await till.bank.sign_in() == 1
        await other.sign_in()
        await other.sign_out()
        assert await till.bank.sign_in() == 1

    async def test_drift_is_what_wallets_and_grants_differ_by(self, till: Till) -> None:
        wallet = await till.wallet(100)
        assert await till.bank.drift() == 0
        await till.sql("UPDATE wallets SET spendable = 93 WHERE id = $1", wallet)
        assert await till.bank.drift() == 7

"""The bank's upkeep: months ahead, replicas that live, drift."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

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

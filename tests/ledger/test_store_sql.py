"""The bank on a real Postgres: what it grants, refuses, posts, and keeps from being changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.ids import uuid7
from ledger.period import Plan, bounds
from ledger.store import BankBusy, BankUnavailable, Beat
from ledger.store_sql import PostgresBank, make_engine
from ledger.usage import Usage
from tests.ledger.proxy import Wire
from tests.ledger.till import Till, statuses, until

_FAR = datetime(2126, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def locked(engine: AsyncEngine, row_id: UUID, table: str = "wallets") -> AsyncIterator[None]:
    """Somebody else keeps this row locked."""
    async with engine.connect() as pooled:
        driver: Any = (await pooled.get_raw_connection()).driver_connection
        async with driver.transaction():
            await driver.execute(f"SELECT 1 FROM {table} WHERE id = $1 FOR NO KEY UPDATE", row_id)
            yield


class TestHolds:
    async def test_each_ask_of_a_batch_stands_alone(self, till: Till) -> None:
        rich, poor, shut = await till.wallet(100), await till.wallet(5), await till.wallet(100)
        await till.sql("UPDATE wallets SET state = 'suspended' WHERE id = $1", shut)
        asks = [till.ask(wallet, 60) for wallet in (poor, rich, uuid7(), shut, rich)]
        replies = await till.bank.open_holds(asks)
        assert statuses(replies) == ["poor", "ok", "unknown", "suspended", "poor"]
        assert [(reply.amount, reply.available) for reply in replies] == [(0, 5), (60, 40), (0, 0), (0, 100), (0, 40)]
        assert await till.broken() == []

    async def test_a_call_gets_less_than_it_wants_but_not_less_than_its_minimum(self, till: Till) -> None:
        wallet = await till.wallet(50)
        [part] = await till.bank.open_holds([till.ask(wallet, 80, minimum=50)])
        [none] = await till.bank.open_holds([till.ask(wallet, 80, minimum=1)])
        assert (part.status, part.amount, part.available) == ("ok", 50, 0)
        assert none.status == "poor"

    async def test_a_call_that_needs_no_money_is_held_on_an_empty_wallet(self, till: Till) -> None:
        wallet = await till.wallet()
        ask = till.ask(wallet, 0, house=True)
        assert statuses(await till.bank.open_holds([ask])) == ["ok"]
        await till.bank.close([till.event(ask, 70)])
        assert await till.posted("exp:goodwill") == 70
        assert await till.broken() == []

    async def test_the_same_call_twice_is_held_once(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = till.ask(wallet, 30)
        assert statuses(await till.bank.open_holds([ask, ask])) == ["ok", "duplicate"]
        assert statuses(await till.bank.open_holds([ask])) == ["duplicate"]
        assert (await till.balance(wallet)).held == 30

    async def test_a_locked_wallet_is_busy_and_its_neighbours_are_served(self, till: Till) -> None:
        stuck, free = await till.wallet(100), await till.wallet(100)
        async with locked(till.engine, stuck):
            async with asyncio.timeout(1):
                replies = await till.bank.open_holds([till.ask(stuck, 10), till.ask(free, 10)])
        assert statuses(replies) == ["busy", "ok"]
        assert (await till.balance(stuck)).held == 0

    async def test_an_ask_the_database_refuses_opens_no_hold_of_its_batch(self, till: Till) -> None:
        wallet = await till.wallet(100)
        with pytest.raises(asyncpg.CheckViolationError):
            await till.bank.open_holds([till.ask(wallet, 10), till.ask(wallet, -1)])
        assert (await till.balance(wallet)).held == 0


class TestAllowance:
    PLAN = Plan(1000, "month", "Pacific/Kiritimati")

    async def test_the_first_hold_of_a_new_wallet_books_its_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        assert statuses(await till.bank.open_holds([till.ask(wallet, 400, plan=self.PLAN)])) == ["ok"]
        balance = await till.bank.balance(wallet, self.PLAN)
        assert (balance.spendable, balance.by_kind, balance.plan_amount) == (1000, {"plan": 1000}, 1000)
        assert balance.period_ends_at == bounds(self.PLAN, datetime.now(UTC))[1]
        assert await till.broken() == []

    async def test_first_calls_on_many_replicas_at_once_book_one_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)

        async def first(number: int) -> str:
            ask = till.ask(wallet, 10, plan=self.PLAN)
            bank = till.replica(f"replica-{number}")
            while (reply := (await bank.open_holds([ask]))[0]).status == "busy":
                await asyncio.sleep(0.005)
            return reply.status.value

        assert await asyncio.gather(*(first(number) for number in range(64))) == ["ok"] * 64
        assert (await till.balance(wallet)).spendable == 1000
        assert await till.broken() == []

    async def test_a_batch_of_first_calls_books_one_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        replies = await till.bank.open_holds([till.ask(wallet, 10, plan=self.PLAN) for _ in range(64)])
        assert statuses(replies) == ["ok"] * 64
        assert (await till.balance(wallet)).spendable == 1000

    async def test_a_new_period_brings_a_new_allowance_and_takes_the_rest_of_the_old(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        await till.bank.balance(wallet, self.PLAN)
        await self._period_ends(till, wallet)
        balance = await till.bank.balance(wallet, self.PLAN)
        assert (balance.spendable, await till.posted("exp:promo")) == (1000, 1000)
        assert await till.broken() == []

    async def test_another_plan_brings_its_allowance_at_once_and_takes_what_is_left_of_the_old(
        self, till: Till
    ) -> None:
        wallet = await till.wallet(7, due=True)
        ask = till.ask(wallet, 30, plan=Plan(100, name="free"))
        await till.bank.open_holds([ask])
        for _ in range(2):
            await till.sql("UPDATE wallets SET due_at = '-infinity' WHERE id = $1", wallet)
            assert (await till.bank.balance(wallet, Plan(500, name="pro"))).spendable == 7 + 30 + 500
        await till.bank.close([till.event(ask, 20)])
        assert await till.broken() == []

    async def test_going_back_to_a_plan_of_this_period_brings_its_allowance_no_second_time(self, till: Till) -> None:
        wallet = await till.wallet(7, due=True)
        for name, amount, spendable in (("free", 100, 107), ("pro", 500, 507), ("free", 100, 7)):
            await till.sql("UPDATE wallets SET due_at = '-infinity' WHERE id = $1", wallet)
            assert (await till.bank.balance(wallet, Plan(amount, name=name))).spendable == spendable
        assert await till.broken() == []

    async def test_a_wallet_without_an_allowance_is_due_only_once(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        assert (await till.bank.balance(wallet, None)).spendable == 0
        assert not await till.value("SELECT due_at <= now() FROM wallets WHERE id = $1", wallet)

    async def test_what_backs_a_hold_stays_over_the_end_of_its_period(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        ask = till.ask(wallet, 400, plan=self.PLAN)
        await till.bank.open_holds([ask])
        await self._period_ends(till, wallet)
        during = await till.bank.balance(wallet, self.PLAN)
        assert (during.spendable, during.held) == (1400, 400)
        await till.bank.close([till.event(ask, 150)])
        after = await till.balance(wallet)
        assert (after.spendable, after.held) == (1000, 0)
        assert await till.broken() == []

    async def test_money_given_back_to_a_grant_that_has_ended_ends_too(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        bank = till.replica("gone", ttl_s=0)
        ask = till.ask(wallet, 400, plan=self.PLAN)
        await bank.open_holds([ask])
        await bank.beat([till.beat(ask, 300)])
        await bank.reap()
        await self._period_ends(till, wallet)
        await till.bank.balance(wallet, self.PLAN)
        await till.bank.close([till.event(ask, 100)])
        assert (await till.balance(wallet)).spendable == 1000
        assert await till.broken() == []

    async def _period_ends(self, till: Till, wallet: UUID) -> None:
        """The running period becomes last year's."""
        await till.sql(
            "UPDATE grants SET expires_at = now() - interval '1 year', source = 'plan:last' WHERE wallet_id = $1",
            wallet,
        )
        await till.sql("UPDATE wallets SET due_at = now() - interval '1 year' WHERE id = $1", wallet)


class TestCredit:
    async def test_a_source_brings_its_money_once(self, till: Till) -> None:
        wallet = await till.wallet()
        brought = [
            await till.bank.credit(wallet, 70, "paid", source="payment:1", funding="cash:test") for _ in range(2)
        ]
        assert brought == [True, False]
        assert (await till.balance(wallet)).spendable == 70
        assert await till.posted("cash:test") == 70

    async def test_a_source_named_on_many_replicas_at_once_brings_its_money_once(self, till: Till) -> None:
        wallet = await till.wallet()
        brought = await asyncio.gather(
            *(till.bank.credit(wallet, 70, "paid", source="payment:1", funding="cash:test") for _ in range(16))
        )
        assert sorted(brought) == [False] * 15 + [True]
        assert await till.broken() == []

    async def test_money_with_an_end_leaves_at_its_end(self, till: Till) -> None:
        wallet = await till.wallet(30)
        end = datetime.now(UTC) + timedelta(seconds=0.3)
        await till.bank.credit(wallet, 50, "promo", source="gift", funding="exp:promo", expires_at=end)
        assert (await till.balance(wallet)).spendable == 80
        await until(lambda: _is(till, wallet, 30))
        assert await till.posted("exp:promo") == 0
        assert await till.broken() == []

    async def test_money_with_an_end_far_away_does_not_delay_the_first_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        await till.bank.credit(wallet, 50, "promo", source="gift", funding="exp:promo", expires_at=_FAR)
        assert (await till.bank.balance(wallet, Plan(100))).spendable == 150

    async def test_money_whose_end_has_passed_already_leaves_at_once(self, till: Till) -> None:
        wallet, past = await till.wallet(30), datetime.now(UTC) - timedelta(hours=1)
        assert await till.bank.credit(wallet, 5, "promo", source="gift", funding="exp:promo", expires_at=past)
        assert (await till.balance(wallet)).spendable == 30
        assert await till.broken() == []

    async def test_nothing_and_nobody_cannot_be_credited(self, till: Till) -> None:
        wallet = await till.wallet()
        with pytest.raises(ValueError, match="at least one"):
            await till.bank.credit(wallet, 0, "paid", source="s", funding="cash:test")
        with pytest.raises(LookupError):
            await till.bank.credit(uuid7(), 1, "paid", source="s", funding="cash:test")

    async def test_a_wallet_nobody_has_has_no_balance(self, till: Till) -> None:
        with pytest.raises(LookupError):
            await till.balance(uuid7())


async def _is(till: Till, wallet: UUID, spendable: int) -> bool:
    return (await till.balance(wallet)).spendable == spendable


class TestBeats:
    async def test_a_beat_extends_in_full_then_in_part_then_not_at_all(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 40)
        seen = []
        for target in (70, 120, 130):
            [reply] = await till.bank.beat([till.beat(ask, 10, target)])
            seen.append((reply.alive, reply.amount, reply.available, reply.busy))
        assert seen == [(True, 70, 30, False), (True, 100, 0, False), (True, 100, 0, False)]
        assert await till.broken() == []

    async def test_a_beat_that_asks_for_less_leaves_the_hold_as_it_is(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 40)
        [reply] = await till.bank.beat([till.beat(ask, 10, target=20)])
        assert (reply.alive, reply.amount) == (True, 40)

    async def test_a_suspended_wallet_extends_nothing(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 40)
        await till.sql("UPDATE wallets SET state = 'suspended' WHERE id = $1", wallet)
        [reply] = await till.bank.beat([till.beat(ask, 10, target=60)])
        assert (reply.alive, reply.amount, reply.available) == (True, 40, 0)

    async def test_a_checkpoint_never_goes_back(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 40)
        await till.bank.beat([till.beat(ask, 20)])
        await till.bank.beat([till.beat(ask, 10)])
        [row] = await till.sql("SELECT checkpoint, usage::text AS usage FROM holds WHERE id = $1", ask.request_id)
        assert (row["checkpoint"], row["usage"]) == (20, '{"output": 20}')

    async def test_a_beat_may_name_the_price_that_explains_it(self, till: Till) -> None:
        """A fallback answered: the checkpoint is in its price, and the provisional charge must recompute."""
        [row] = await till.sql(
            """INSERT INTO prices (model_id, doc) VALUES ('n', '{"pico": {"output": 2000}}') RETURNING version"""
        )
        ask = await till.hold(await till.wallet(100), 40, bank=(bank := till.replica("gone", ttl_s=0)))
        await bank.beat([Beat(ask.request_id, ask.wallet_id, 20, Usage(output=10), price_version=row["version"])])
        await till.bank.reap()
        assert await till.charges(ask) == {"provisional": 20}
        assert await till.broken() == []

    async def test_a_beat_keeps_a_hold_from_being_reaped(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 40)
        await till.past(ask, "expires_at")
        await till.bank.beat([till.beat(ask, 10)])
        assert await till.bank.reap() == 0

    async def test_a_reaped_hold_is_no_longer_alive(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 40)
        await till.past(ask, "expires_at")
        assert await till.bank.reap() == 1
        [reply] = await till.bank.beat([till.beat(ask, 10, target=80)])
        assert not reply.alive
        assert await till.broken() == []

    async def test_somebody_elses_hold_is_not_alive_and_not_changed(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 40)
        [reply] = await till.replica("replica-2").beat([till.beat(ask, 10, target=80)])
        assert not reply.alive
        assert (await till.balance(wallet)).held == 40

    async def test_a_beat_under_a_wrong_wallet_takes_nothing_from_it(self, till: Till) -> None:
        ask, other = await till.hold(await till.wallet(100), 40), await till.wallet(100)
        [reply] = await till.bank.beat([Beat(ask.request_id, other, 1, Usage(output=1), 90)])
        assert not reply.alive and (await till.balance(other)).held == 0

    async def test_a_locked_wallet_delays_an_extension_and_not_the_sign_of_life(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask, quiet = await till.hold(wallet, 40), await till.hold(await till.wallet(100), 40)
        async with locked(till.engine, wallet), asyncio.timeout(1):
            busy, fine = await till.bank.beat([till.beat(ask, 30, target=60), till.beat(quiet, 5, target=50)])
        assert (busy.alive, busy.busy, busy.amount) == (True, True, 40)
        assert (fine.alive, fine.busy, fine.amount) == (True, False, 50)
        assert await till.value("SELECT checkpoint FROM holds WHERE id = $1", ask.request_id) == 30


class TestClose:
    async def test_a_settlement_charges_and_frees_the_rest(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 60)
        assert await till.bank.close([till.event(ask, 25)]) == await till.bank.close([])
        balance = await till.balance(wallet)
        assert (balance.spendable, balance.held, await till.state(ask)) == (75, 0, "settled")
        assert await till.charges(ask) == {"final": 25} and await till.posted("rev:usage") == -25

    async def test_closing_twice_changes_nothing(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 60)
        event = till.event(ask, 25)
        await till.bank.close([event, event])
        await till.bank.close([event])
        await asyncio.gather(*(till.bank.close([till.event(ask, 50)]) for _ in range(4)))
        assert await till.charges(ask) == {"final": 25} and (await till.balance(wallet)).spendable == 75
        assert await till.broken() == []

    async def test_calls_of_one_wallet_close_in_one_batch(self, till: Till) -> None:
        wallet = await till.wallet(100)
        asks = [await till.hold(wallet, 10) for _ in range(10)]
        await till.bank.close([till.event(ask, 3) for ask in asks])
        balance = await till.balance(wallet)
        assert (balance.spendable, balance.held) == (70, 0)
        assert await till.broken() == []

    async def test_an_unknown_call_is_handed_back_and_an_unknown_void_is_done_with(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask, stray, never = await till.hold(wallet, 10), till.ask(wallet, 10), till.ask(uuid7(), 10)
        void = till.event(till.ask(wallet, 10), 0)
        events = [
            till.event(stray, 5),
            till.event(ask, 5),
            till.event(never, 5),
            msgspec.structs.replace(void, void=True),
        ]
        unposted = await till.bank.close(events)
        assert {event.request_id for event in unposted.unknown} == {stray.request_id, never.request_id}
        assert unposted.busy == () and await till.charges(ask) == {"final": 5}

    async def test_a_settlement_under_a_wrong_wallet_is_handed_back(self, till: Till) -> None:
        ask, other = await till.hold(await till.wallet(100), 10), await till.wallet(100)
        wrong = till.event(till.ask(other, 10), 5)
        unposted = await till.bank.close([msgspec.structs.replace(wrong, request_id=ask.request_id)])
        assert len(unposted.unknown) == 1 and await till.state(ask) == "open"

    async def test_a_locked_wallet_keeps_only_its_own_settlements_waiting(self, till: Till) -> None:
        stuck, free = await till.wallet(100), await till.wallet(100)
        waiting, quick = await till.hold(stuck, 10), await till.hold(free, 10)
        async with locked(till.engine, stuck), asyncio.timeout(1):
            unposted = await till.bank.close([till.event(waiting, 5), till.event(quick, 5)])
        assert [event.request_id for event in unposted.busy] == [waiting.request_id]
        assert await till.charges(quick) == {"final": 5} and await till.charges(waiting) == {}
        await till.bank.close(unposted.busy)
        assert await till.broken() == []

    async def test_holds_are_locked_in_the_order_of_their_ids_as_beats_lock_them(self, till: Till) -> None:
        """Two that lock the same holds in different orders would wait for each other."""
        wallet = await till.wallet(100)
        lower, higher = sorted((till.ask(wallet, 10) for _ in range(2)), key=lambda ask: ask.request_id)
        for ask in (higher, lower):  # in the table they stand the other way round
            await till.bank.open_holds([ask])
        lock = "SELECT 1 FROM holds WHERE id = $1 FOR NO KEY UPDATE"
        async with till.engine.connect() as pooled:
            driver: Any = (await pooled.get_raw_connection()).driver_connection
            async with driver.transaction():
                await driver.execute(lock, lower.request_id)
                closing = asyncio.create_task(till.bank.close([till.event(higher, 1), till.event(lower, 1)]))
                await until(lambda: _waits_for_a_lock(till))
                assert await till.sql(f"{lock} NOWAIT", higher.request_id)
        await closing

    async def test_more_than_the_wallet_has_is_bad_debt_and_the_wallet_ends_at_zero(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 60)
        await till.bank.close([till.event(ask, 130)])
        assert ((await till.balance(wallet)).spendable, await till.posted("exp:bad_debt")) == (0, 30)
        assert await till.broken() == []


async def _waits_for_a_lock(till: Till) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await till.value(waiting))


class TestReaping:
    async def test_a_silent_call_is_charged_quarantined_and_released(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 60)
        await till.bank.beat([till.beat(ask, 25)])
        assert await till.bank.reap() == 0
        await till.past(ask, "expires_at")
        assert (await till.bank.reap(), await till.bank.reap()) == (1, 0)
        balance = await till.balance(wallet)
        assert (balance.spendable, balance.held, await till.state(ask)) == (75, 35, "quarantine")
        assert await till.bank.release() == 0
        await till.past(ask, "release_at")
        assert (await till.bank.release(), await till.bank.release()) == (1, 0)
        balance = await till.balance(wallet)
        assert (balance.spendable, balance.held, await till.state(ask)) == (75, 0, "settled")
        assert await till.broken() == []

    @pytest.mark.parametrize("amount", [0, 10, 25, 60, 80, 120])
    @pytest.mark.parametrize("released", [False, True])
    async def test_the_final_word_after_a_provisional_posts_the_difference(
        self, till: Till, amount: int, released: bool
    ) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 60)
        await till.bank.beat([till.beat(ask, 25)])
        await till.past(ask, "expires_at")
        await till.bank.reap()
        if released:
            await till.past(ask, "release_at")
            await till.bank.release()
        for _ in range(2):
            await till.bank.close([till.event(ask, amount)])
        assert await till.charges(ask) == {"provisional": 25, "late" if released else "final": amount}
        balance = await till.balance(wallet)
        assert (balance.spendable, balance.held) == (max(0, 100 - amount), 0)
        assert await till.posted("rev:usage") == -amount
        assert await till.broken() == []

    async def test_a_checkpoint_beyond_its_hold_recomputes(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 60)
        await till.bank.beat([till.beat(ask, 65)])
        await till.past(ask, "expires_at")
        await till.bank.reap()
        assert await till.charges(ask) == {"provisional": 65}
        assert await till.broken() == []

    async def test_a_locked_wallet_keeps_the_others_from_nothing(self, till: Till) -> None:
        stuck, free = await till.wallet(100), await till.wallet(100)
        asks = [await till.hold(wallet, 10) for wallet in (stuck, free)]
        for ask in asks:
            await till.past(ask, "expires_at")
        async with locked(till.engine, stuck), asyncio.timeout(1):
            assert await till.bank.reap() == 1
        assert await till.bank.reap() == 1

    async def test_replicas_that_reap_at_once_charge_once(self, till: Till) -> None:
        wallet = await till.wallet(100)
        for ask in [await till.hold(wallet, 10) for _ in range(5)]:
            await till.past(ask, "expires_at")
        await asyncio.gather(*(till.bank.reap() for _ in range(4)))
        while await till.bank.reap():
            pass
        assert await till.value("SELECT count(*) FROM charges") == 5
        assert await till.broken() == []


class TestFacts:
    async def _charged(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 60)
        await till.bank.close([till.event(ask, 25)])

    @pytest.mark.parametrize("table", ["charges", "journal_entries", "postings"])
    @pytest.mark.parametrize("how", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
    async def test_facts_can_be_neither_changed_nor_deleted(self, till: Till, table: str, how: str) -> None:
        await self._charged(till)
        column = {"charges": "amount = 0", "journal_entries": "kind = 'x'", "postings": "amount = 1"}[table]
        parts = await till.sql(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::regclass", table
        )
        filled = [r["name"] for r in parts if await till.value(f"SELECT EXISTS (SELECT 1 FROM {r['name']})")]
        assert len(parts) >= 4 and len(filled) == 1
        # A row trigger has nothing to refuse in a partition without rows; TRUNCATE is refused on every one.
        for name in [table, *([r["name"] for r in parts] if "TRUNCATE" in how else filled)]:
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
                await till.sql(how.format(name, column))

    @pytest.mark.parametrize("table", ["postings", "postings_default"])
    async def test_postings_that_do_not_balance_are_refused(self, till: Till, table: str) -> None:
        one, other = uuid4(), uuid4()  # not of version 7: they land in the default partition
        row = f"INSERT INTO {table} (entry_id, line, account, amount) VALUES ($1, 0, 'a', 5), ($2, 1, 'b', -5)"
        with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
            await till.sql(row, UUID(int=one.int | 1 << 127), UUID(int=other.int | 1 << 127))

    async def test_a_wallet_below_zero_is_refused(self, till: Till) -> None:
        wallet = await till.wallet(100)
        for column, value in (("held", 101), ("spendable", -1), ("held", -1)):
            with pytest.raises(asyncpg.CheckViolationError):
                await till.sql(f"UPDATE wallets SET {column} = $2 WHERE id = $1", wallet, value)


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
        engine = make_engine(database_url, size=1, command_timeout_s=0.1)
        try:
            async with engine.connect():
                with pytest.raises(BankUnavailable):
                    await PostgresBank(engine, owner="x").ping()
        finally:
            await engine.dispose()

    async def test_a_credit_waits_for_a_locked_wallet_no_longer_than_the_lock_bound(
        self, till: Till, database_url: str
    ) -> None:
        wallet = await till.wallet(100)
        engine = make_engine(database_url, size=1, lock_timeout_ms=50)
        try:
            async with locked(till.engine, wallet):
                with pytest.raises(BankBusy):
                    await PostgresBank(engine, owner="x").credit(wallet, 1, "paid", source="s", funding="cash:test")
        finally:
            await engine.dispose()

"""Holds on a real Postgres: opened, extended, closed and reaped; each ask, beat and settlement stands alone."""

from __future__ import annotations

import asyncio

import asyncpg
import msgspec
import pytest

from ledger.ids import uuid7
from ledger.store import Beat
from ledger.usage import Usage
from tests.ledger.till import Till, locked, statuses


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
            async with asyncio.timeout(30):
                replies = await till.bank.open_holds([till.ask(stuck, 10), till.ask(free, 10)])
        assert statuses(replies) == ["busy", "ok"]
        assert (await till.balance(stuck)).held == 0

    async def test_an_ask_the_database_refuses_opens_no_hold_of_its_batch(self, till: Till) -> None:
        wallet = await till.wallet(100)
        with pytest.raises(asyncpg.CheckViolationError):
            await till.bank.open_holds([till.ask(wallet, 10), till.ask(wallet, -1)])
        assert (await till.balance(wallet)).held == 0


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
        async with locked(till.engine, wallet), asyncio.timeout(30):
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
        async with locked(till.engine, stuck), asyncio.timeout(30):
            unposted = await till.bank.close([till.event(waiting, 5), till.event(quick, 5)])
        assert [event.request_id for event in unposted.busy] == [waiting.request_id]
        assert await till.charges(quick) == {"final": 5} and await till.charges(waiting) == {}
        await till.bank.close(unposted.busy)
        assert await till.broken() == []

    async def test_more_than_the_wallet_has_is_bad_debt_and_the_wallet_ends_at_zero(self, till: Till) -> None:
        wallet = await till.wallet(100)
        ask = await till.hold(wallet, 60)
        await till.bank.close([till.event(ask, 130)])
        assert ((await till.balance(wallet)).spendable, await till.posted("exp:bad_debt")) == (0, 30)
        assert await till.broken() == []


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
        async with locked(till.engine, stuck), asyncio.timeout(30):
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

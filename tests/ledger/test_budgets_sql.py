"""Budgets beside the wallet: a call is counted in each it names, and passes none, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import uuid4

import msgspec
import pytest

from ledger.hold import Settlement
from ledger.journal import TOKENS
from ledger.store import Beat, BudgetAsk, BudgetState, HoldAsk, HoldStatus
from ledger.store_sql import PostgresBank
from ledger.teller import Teller
from ledger.verify import drained
from tests.ledger.till import Till, locked, statuses, until, waits_for_a_lock

T = TypeVar("T")


def _budget(limit: int) -> BudgetAsk:
    return BudgetAsk(uuid4(), limit)


async def _state(till: Till, budget: BudgetAsk) -> tuple[int, int]:
    state = await till.bank.budget(budget.id)
    return state.spent, state.held


class TestOpening:
    async def test_a_budget_nobody_named_has_nothing_spent(self, till: Till) -> None:
        assert await till.bank.budget(uuid4()) == BudgetState(0, 0)

    async def test_a_call_is_held_in_its_wallet_and_in_each_of_its_budgets(self, till: Till) -> None:
        wallet, mine, ours = await till.wallet(1000), _budget(300), _budget(500)
        [reply] = await till.bank.open_holds([till.ask(wallet, 100, budgets=(mine, ours))])
        assert (reply.status, reply.amount, reply.available, reply.headroom) == (HoldStatus.OK, 100, 900, 200)
        assert await _state(till, mine) == await _state(till, ours) == (0, 100)
        assert (await till.balance(wallet)).held == 100
        assert await till.broken() == []

    async def test_a_call_gets_what_its_tightest_budget_allows(self, till: Till) -> None:
        wallet, wide, tight = await till.wallet(1000), _budget(500), _budget(70)
        [reply] = await till.bank.open_holds([till.ask(wallet, 100, 50, budgets=(wide, tight))])
        assert (reply.status, reply.amount, reply.available, reply.headroom) == (HoldStatus.OK, 70, 930, 0)
        assert await _state(till, wide) == (0, 70)

    async def test_the_budget_that_refuses_is_named_and_nothing_is_held(self, till: Till) -> None:
        wallet, wide, tight = await till.wallet(1000), _budget(500), _budget(70)
        [reply] = await till.bank.open_holds([till.ask(wallet, 100, budgets=(wide, tight))])
        assert (reply.status, reply.amount, reply.available) == (HoldStatus.CAPPED, 0, 70)
        assert reply.budget == tight.id
        assert await _state(till, wide) == await _state(till, tight) == (0, 0)
        assert (await till.balance(wallet)).held == 0

    async def test_a_wallet_that_cannot_pay_is_poor_whatever_its_budgets_say(self, till: Till) -> None:
        wallet = await till.wallet(10)
        [reply] = await till.bank.open_holds([till.ask(wallet, 100, budgets=(_budget(5),))])
        assert (reply.status, reply.available, reply.budget) == (HoldStatus.POOR, 10, None)

    async def test_without_budgets_the_headroom_is_what_the_wallet_has_free(self, till: Till) -> None:
        [reply] = await till.bank.open_holds([till.ask(await till.wallet(10), 4)])
        assert (reply.available, reply.headroom, reply.budget) == (6, 6, None)

    async def test_a_limit_that_was_lowered_below_what_is_spent_refuses(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(100)
        await till.bank.close([till.event(await till.hold(wallet, 90, budgets=(budget,)), 90)])
        lower = BudgetAsk(budget.id, 40)
        [reply] = await till.bank.open_holds([till.ask(wallet, 1, budgets=(lower,))])
        assert (reply.status, reply.available) == (HoldStatus.CAPPED, 0)

    async def test_the_same_budget_twice_counts_once_at_its_lower_limit(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(100)
        twice = (budget, BudgetAsk(budget.id, 60))
        [reply] = await till.bank.open_holds([till.ask(wallet, 80, 1, budgets=twice)])
        assert reply.amount == 60 and await _state(till, budget) == (0, 60)

    async def test_a_call_that_needs_no_money_passes_a_budget_that_is_used_up(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(0)
        [reply] = await till.bank.open_holds([till.ask(wallet, 0, budgets=(budget,))])
        assert (reply.status, reply.amount) == (HoldStatus.OK, 0)

    async def test_a_call_on_the_house_is_counted_and_stops_where_its_budget_is_used_up(self, till: Till) -> None:
        wallet, budget = await till.wallet(), _budget(100)
        ask = till.ask(wallet, 0, house=True, budgets=(budget,))
        assert statuses(await till.bank.open_holds([ask])) == ["ok"]
        await till.bank.close([till.event(ask, 120)])
        assert await _state(till, budget) == (120, 0)
        again = till.ask(wallet, 0, house=True, budgets=(budget,))
        assert statuses(await till.bank.open_holds([again])) == ["capped"]
        assert await till.broken() == []

    async def test_what_the_house_pays_is_held_in_its_budget_and_not_in_the_wallet(self, till: Till) -> None:
        wallet, budget = await till.wallet(5), _budget(100)
        ask = till.ask(wallet, 60, 30, house=True, budgets=(budget,))
        [reply] = await till.bank.open_holds([ask])
        assert (reply.status, reply.amount, reply.available, reply.headroom) == (HoldStatus.OK, 60, 5, 40)
        assert await _state(till, budget) == (0, 60) and (await till.balance(wallet)).held == 0
        [more] = await till.bank.beat([till.beat(ask, 50, 90)])
        assert (more.amount, more.budget) == (90, None)
        [more] = await till.bank.beat([till.beat(ask, 50, 900)])
        assert (more.amount, more.budget) == (100, budget.id)
        [narrow] = await till.bank.open_holds([till.ask(wallet, 60, 30, house=True, budgets=(budget,))])
        assert (narrow.status, narrow.budget) == (HoldStatus.CAPPED, budget.id)
        assert await till.broken() == []
        await till.bank.close([till.event(ask, 70)])
        assert await _state(till, budget) == (70, 0) and (await till.balance(wallet)).spendable == 5
        assert await till.broken() == []

    @pytest.mark.parametrize("late", [False, True])
    async def test_a_silent_call_on_the_house_stays_in_its_budget_until_its_horizon(
        self, till: Till, late: bool
    ) -> None:
        wallet, budget = await till.wallet(5), _budget(100)
        silent = till.replica("silent", ttl_s=-1, horizon_s=-1 if late else 600)
        ask = till.ask(wallet, 60, house=True, budgets=(budget,))
        await silent.open_holds([ask])
        await silent.beat([till.beat(ask, 20)])
        assert await till.bank.reap() == 1
        assert await _state(till, budget) == (20, 60) and await till.broken() == []
        assert await till.bank.release() == (1 if late else 0)
        await till.bank.close([till.event(ask, 50)])
        assert await _state(till, budget) == (50, 0) and await till.broken() == []
        assert (await drained(till.engine)).holds and (await till.balance(wallet)).spendable == 5

    async def test_a_burst_on_the_house_shares_what_is_left(self, till: Till) -> None:
        wallet, budget = await till.wallet(), _budget(100)
        asks = [till.ask(wallet, 30, 10, house=True, budgets=(budget,)) for _ in range(8)]
        replies = await till.bank.open_holds(asks)
        assert [reply.amount for reply in replies] == [30, 30, 30, 10, 0, 0, 0, 0]
        assert await _state(till, budget) == (0, 100) and await till.broken() == []

    async def test_without_a_budget_the_house_locks_nothing(self, till: Till) -> None:
        wallet = await till.wallet()
        ask = till.ask(wallet, 60, house=True)
        [reply] = await till.bank.open_holds([ask])
        assert (reply.status, reply.amount, (await till.balance(wallet)).held) == (HoldStatus.OK, 60, 0)
        await till.bank.close([till.event(ask, 70)])
        assert await till.broken() == []

    async def test_tokens_are_not_counted_in_budgets(self, till: Till) -> None:
        wallet, budget = uuid4(), _budget(1)
        await till.bank.open_wallet(wallet, TOKENS)
        await till.bank.balance(wallet, None)
        await till.bank.credit(wallet, 500, "promo", source="s", funding="exp:promo")
        [reply] = await till.bank.open_holds([till.ask(wallet, 100, budgets=(budget,))])
        assert (reply.status, reply.amount, reply.headroom) == (HoldStatus.OK, 100, 400)
        assert await _state(till, budget) == (0, 0)

    async def test_an_ask_that_is_due_and_names_a_budget_for_the_first_time_is_served(self, till: Till) -> None:
        wallet, budget = await till.wallet(50, due=True), _budget(100)
        [reply] = await till.bank.open_holds([till.ask(wallet, 20, budgets=(budget,))])
        assert reply.status == "ok" and await _state(till, budget) == (0, 20)

    async def test_asks_of_one_batch_share_their_budget(self, till: Till) -> None:
        budget = _budget(100)
        asks = [till.ask(await till.wallet(1000), 40, budgets=(budget,)) for _ in range(3)]
        assert sorted(statuses(await till.bank.open_holds(asks))) == ["capped", "ok", "ok"]
        assert await _state(till, budget) == (0, 80)

    async def test_a_locked_budget_is_busy_and_its_neighbours_are_served(self, till: Till) -> None:
        wallet, other, budget = await till.wallet(100), await till.wallet(100), _budget(100)
        await till.hold(wallet, 10, budgets=(budget,))
        async with locked(till.engine, budget.id, "budgets"):
            replies = await till.bank.open_holds([till.ask(wallet, 10, budgets=(budget,)), till.ask(other, 10)])
        assert statuses(replies) == ["busy", "ok"]
        assert (await till.balance(wallet)).held == 10

    async def test_the_same_call_twice_is_counted_once(self, till: Till) -> None:
        wallet, budget = await till.wallet(100), _budget(100)
        ask = await till.hold(wallet, 10, budgets=(budget,))
        assert statuses(await till.bank.open_holds([ask])) == ["duplicate"]
        assert await _state(till, budget) == (0, 10)


class TestBeating:
    async def test_an_extension_ends_where_the_budget_does(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(60)
        ask = await till.hold(wallet, 40, budgets=(budget,))
        [reply] = await till.bank.beat([till.beat(ask, 30, 100)])
        assert (reply.amount, reply.available, reply.budget) == (60, 0, budget.id)
        [reply] = await till.bank.beat([till.beat(ask, 60, 100)])
        assert (reply.amount, reply.available, reply.budget) == (60, 0, budget.id)
        assert await _state(till, budget) == (0, 60) and (await till.balance(wallet)).held == 60
        assert await till.broken() == []

    async def test_an_extension_the_budget_allows_names_none(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(600)
        ask = await till.hold(wallet, 40, budgets=(budget,))
        [reply] = await till.bank.beat([till.beat(ask, 30, 100)])
        assert (reply.amount, reply.available, reply.budget) == (100, 900, None)
        assert await _state(till, budget) == (0, 100)

    async def test_where_the_wallet_ends_first_the_wallet_says_so(self, till: Till) -> None:
        wallet, budget = await till.wallet(50), _budget(600)
        ask = await till.hold(wallet, 40, budgets=(budget,))
        [reply] = await till.bank.beat([till.beat(ask, 30, 100)])
        assert (reply.amount, reply.available, reply.budget) == (50, 0, None)
        assert await _state(till, budget) == (0, 50)

    async def test_a_locked_budget_delays_an_extension_and_not_the_sign_of_life(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(600)
        ask = await till.hold(wallet, 40, budgets=(budget,))
        async with locked(till.engine, budget.id, "budgets"):
            [reply] = await till.bank.beat([till.beat(ask, 30, 100)])
        assert (reply.alive, reply.busy, reply.amount) == (True, True, 40)
        assert (await till.balance(wallet)).held == 40
        assert await till.value("SELECT checkpoint FROM holds WHERE id = $1", ask.request_id) == 30

    async def test_a_beat_that_waits_for_a_hold_keeps_no_budget_from_anybody(self, till: Till) -> None:
        """Who settles has holds and waits for budgets: a beat must not do the reverse."""
        wallet, other, budget = await till.wallet(1000), await till.wallet(1000), _budget(600)
        extended, settled = await till.hold(wallet, 40, budgets=(budget,)), await till.hold(other, 40)
        assert extended.request_id < settled.request_id
        async with locked(till.engine, settled.request_id, "holds"):
            beating = asyncio.create_task(till.bank.beat([till.beat(extended, 30, 100), till.beat(settled, 5)]))
            await until(lambda: waits_for_a_lock(till))
            free = "SELECT 1 FROM budgets WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED"
            assert len(await till.sql(free, budget.id)) == 1
        assert [reply.amount for reply in await beating] == [100, 40]


class TestEnding:
    @pytest.mark.parametrize("amount", [0, 30, 50, 80])
    async def test_a_settlement_counts_what_the_call_cost(self, till: Till, amount: int) -> None:
        wallet, mine, ours = await till.wallet(1000), _budget(50), _budget(500)
        ask = await till.hold(wallet, 50, budgets=(mine, ours))
        await till.bank.close([till.event(ask, amount)])
        await till.bank.close([till.event(ask, amount)])
        assert await _state(till, mine) == await _state(till, ours) == (amount, 0)
        assert await till.broken() == []

    async def test_a_void_leaves_no_trace(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(50)
        ask = await till.hold(wallet, 50, budgets=(budget,))
        await till.bank.close([msgspec.structs.replace(till.event(ask, 0), void=True)])
        assert await _state(till, budget) == (0, 0) and await till.broken() == []

    @pytest.mark.parametrize("word", [None, 10, 60])
    @pytest.mark.parametrize("released", [False, True])
    async def test_silence_release_and_a_last_word_keep_count(
        self, till: Till, word: int | None, released: bool
    ) -> None:
        wallet, budget = await till.wallet(1000), _budget(500)
        ask = await till.hold(wallet, 50, budgets=(budget,))
        await till.bank.beat([till.beat(ask, 20)])
        await till.past(ask, "expires_at")
        await till.bank.reap()
        assert await _state(till, budget) == (20, 30) and await till.broken() == []
        if released:
            await till.past(ask, "release_at")
            await till.bank.release()
            assert await _state(till, budget) == (20, 0) and await till.broken() == []
        if word is not None:
            await till.bank.close([till.event(ask, word)])
            assert await _state(till, budget) == (word, 0) and await till.broken() == []

    async def test_a_refund_does_not_bring_a_budget_back(self, till: Till) -> None:
        wallet, budget = await till.wallet(1000), _budget(50)
        ask = await till.hold(wallet, 50, budgets=(budget,))
        await till.bank.close([till.event(ask, 50)])
        await till.bank.refund(ask.request_id, None, reason="", source="s")
        assert await _state(till, budget) == (50, 0) and await till.broken() == []

    async def test_calls_of_many_wallets_under_one_budget_close_in_one_batch(self, till: Till) -> None:
        budget = _budget(10_000)
        asks = [await till.hold(await till.wallet(100), 50, budgets=(budget,)) for _ in range(5)]
        await till.bank.close([till.event(ask, 10) for ask in asks])
        assert await _state(till, budget) == (50, 0)


async def test_a_budget_of_k_calls_lets_exactly_k_of_200_pass(till: Till) -> None:
    """Two replicas, each with its lanes; calls of one key for many users, all at once."""
    budget, wallets = _budget(37 * 10), [await till.wallet(1000) for _ in range(20)]
    tellers = [Teller(till.replica(name), regret=lambda event: None, patience_s=30) for name in ("one", "two")]
    asks = [till.ask(wallets[n % 20], 10, budgets=(budget,)) for n in range(200)]
    replies = await asyncio.gather(*(tellers[n % 2].open(ask) for n, ask in enumerate(asks)))
    assert statuses(list(replies)).count("ok") == 37 and statuses(list(replies)).count("capped") == 163
    assert await _state(till, budget) == (0, 370)
    await till.bank.close(
        [till.event(ask, 10) for ask, reply in zip(asks, replies, strict=True) if reply.status is HoldStatus.OK]
    )
    assert await _state(till, budget) == (370, 0)
    assert await till.broken() == [] and (await drained(till.engine)).holds


async def test_crossing_budgets_of_batches_that_open_beat_and_end_at_once_block_nobody(till: Till) -> None:
    """Each call is counted in two of four budgets, named in either order, on two replicas: nobody waits in a circle."""
    wallets, budgets = [await till.wallet(10**6) for _ in range(8)], [_budget(10**9) for _ in range(4)]
    pairs = [(n % 4, (n * 3 + 1) % 4) for n in range(96)]

    async def batch(first: int) -> None:
        bank = till.replica(f"replica-{first % 2}")
        asks = []
        for n in range(first, 96, 12):
            one, other = pairs[n]
            named = (budgets[one], budgets[other]) if n % 2 else (budgets[other], budgets[one])
            asks.append(till.ask(wallets[n % 8], 10, budgets=named))
        await _patiently(asks, lambda left: _opened(bank, left))
        await _patiently([till.beat(ask, 5, 15) for ask in asks], lambda left: _beaten(bank, left))
        await _patiently([till.event(ask, 20) for ask in asks], lambda left: _closed(bank, left))

    await asyncio.gather(*(batch(first) for first in range(12)))
    counted = [sum(20 for pair in pairs if n in pair) for n in range(4)]
    assert [await _state(till, budget) for budget in budgets] == [(spent, 0) for spent in counted]
    assert await till.broken() == [] and (await drained(till.engine)).holds


async def _patiently(things: Sequence[T], ask: Callable[[Sequence[T]], Awaitable[Sequence[T]]]) -> None:
    """Ask again for what somebody else had locked. Whoever waits too long or in a circle raises."""
    for _ in range(10_000):
        things = await ask(things)
        if not things:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("never done")


async def _opened(bank: PostgresBank, asks: Sequence[HoldAsk]) -> list[HoldAsk]:
    replies = await bank.open_holds(asks)
    assert set(statuses(replies)) <= {"ok", "busy"}
    return [ask for ask, reply in zip(asks, replies, strict=True) if reply.status is HoldStatus.BUSY]


async def _beaten(bank: PostgresBank, beats: Sequence[Beat]) -> list[Beat]:
    replies = await bank.beat(beats)
    assert all(reply.busy or reply.amount == 15 for reply in replies)
    return [beat for beat, reply in zip(beats, replies, strict=True) if reply.busy]


async def _closed(bank: PostgresBank, events: Sequence[Settlement]) -> Sequence[Settlement]:
    return (await bank.close(events)).busy

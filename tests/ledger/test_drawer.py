"""The drawer: what a transaction locks, in which order, and what it reads of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.audit import driver
from ledger.drawer import lock_holds, open_drawer, read_grants, read_prior, read_refunds, wait_for_drawer
from ledger.hold import Rev
from ledger.store import BudgetAsk
from tests.ledger.till import Till, locked, until, waits_for_a_lock


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[Any]:
    async with engine.begin() as pooled:
        yield await driver(pooled)


async def test_a_wallet_somebody_else_has_is_left_in_place(till: Till, connection: Any) -> None:
    free, taken = await till.wallet(10), await till.wallet(10, due=True)
    async with locked(till.engine, taken):
        assert set((await open_drawer(connection, {free, taken, uuid4()})).wallets) == {free}
    drawer = await open_drawer(connection, {free, taken})
    assert set(drawer.wallets) == {free, taken} and drawer.due == {taken}
    assert drawer.wallets[free].spendable == 10


async def test_an_empty_drawer_has_no_wallet(connection: Any) -> None:
    assert (await open_drawer(connection, ())).wallets == {}


async def test_who_waits_gets_every_wallet_or_an_error(till: Till, connection: Any) -> None:
    wallet = await till.wallet(10)
    async with locked(till.engine, wallet):
        waiting = asyncio.create_task(wait_for_drawer(connection, wallet))
        await until(lambda: waits_for_a_lock(till))
    assert set((await waiting).wallets) == {wallet}
    with pytest.raises(LookupError):
        await wait_for_drawer(connection, wallet, uuid4())


async def test_holds_are_locked_in_the_order_of_their_ids_as_beats_lock_them(till: Till) -> None:
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
            await until(lambda: waits_for_a_lock(till))
            assert await till.sql(f"{lock} NOWAIT", higher.request_id)
    await closing


async def test_with_a_hold_its_budgets_are_locked(till: Till, connection: Any) -> None:
    wallet, budget, other = await till.wallet(100), BudgetAsk(uuid4(), 100), BudgetAsk(uuid4(), 100)
    ask = await till.hold(wallet, 10, budgets=(budget,))
    await till.hold(wallet, 10, budgets=(other,))
    holds = await lock_holds(connection, [ask.request_id, uuid4()])
    assert {key: hold.budget_ids for key, hold in holds.items()} == {ask.request_id: (budget.id,)}
    free = "SELECT id FROM budgets FOR NO KEY UPDATE SKIP LOCKED"
    assert [row["id"] for row in await till.sql(free)] == [other.id]


async def test_grants_are_the_live_ones_and_those_a_call_has_burnt(till: Till, connection: Any) -> None:
    wallet = await till.wallet(30)
    await till.bank.credit(wallet, 20, "promo", source="gift", funding="exp:promo")
    ask = await till.charge(wallet, 20)
    burnt = (await read_prior(connection, [ask.request_id]))[ask.request_id][0].postings
    live, both = [(await open_drawer(connection, {wallet})).wallets for _ in range(2)]
    await read_grants(connection, live)
    await read_grants(connection, both, burnt)
    assert [grant.remaining for grant in live[wallet].grants] == [30]
    assert sorted(grant.remaining for grant in both[wallet].grants) == [0, 30]


async def test_what_was_said_and_given_back_of_a_call_is_read_in_its_order(till: Till, connection: Any) -> None:
    ask = await till.hold(await till.wallet(100), 60)
    await till.bank.beat([till.beat(ask, 20)])
    await till.past(ask, "expires_at")
    await till.bank.reap()
    await till.bank.close([till.event(ask, 50)])
    for amount in (5, 7):
        await till.bank.refund(ask.request_id, amount, reason="", source=str(amount))
    said = (await read_prior(connection, [ask.request_id]))[ask.request_id]
    assert [(charge.rev, charge.amount) for charge in said] == [(Rev.PROVISIONAL, 20), (Rev.FINAL, 50)]
    assert [leg.amount for charge in said for leg in charge.postings if leg.wallet_id] == [20, 30]
    back = (await read_refunds(connection, [ask.request_id]))[ask.request_id]
    assert [(refund.amount, sum(leg.amount for leg in refund.postings)) for refund in back] == [(5, 0), (7, 0)]


async def test_of_nothing_nothing_is_read(connection: Any) -> None:
    assert await read_prior(connection, []) == {} == await read_refunds(connection, [uuid4()])

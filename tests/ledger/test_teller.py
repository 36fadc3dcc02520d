"""Concurrent calls share a commit at the counter, and nobody's trouble is a neighbour's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec
import pytest

from ledger.hold import Settlement
from ledger.period import Plan
from ledger.store import BankBusy, BankUnavailable, HoldAsk, HoldReply, HoldStatus
from ledger.store_sql import PostgresBank
from ledger.teller import Teller, void
from tests.ledger.proxy import Forgetful
from tests.ledger.till import Till, facts_of, locked, statuses


class Counting(PostgresBank):
    """The bank, remembering how many asks came in each trip, and holding the first trip until its gate opens."""

    def __init__(self, till: Till) -> None:
        super().__init__(till.engine, owner="replica-1")
        self.trips: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def open_holds(self, asks: Sequence[HoldAsk]) -> list[HoldReply]:
        self.trips.append(len(asks))
        await self.gate.wait()
        return await super().open_holds(asks)


def _no_regret(event: Settlement) -> None:
    raise AssertionError(f"regretted {event}")


async def test_a_wallet_that_can_pay_for_k_calls_pays_for_exactly_k(till: Till) -> None:
    wallet = await till.wallet(37 * 10 + 9)
    teller = Teller(till.bank, regret=_no_regret, patience_s=30)
    asks = [till.ask(wallet, 10) for _ in range(1000)]
    replies = await asyncio.gather(*(teller.open(ask) for ask in asks))
    granted = [ask for ask, reply in zip(asks, replies, strict=True) if reply.status == "ok"]
    assert len(granted) == 37 and set(statuses(replies)) == {"ok", "poor"}
    await till.bank.close([till.event(ask, 10) for ask in granted])
    balance = await till.balance(wallet)
    assert (balance.spendable, balance.held) == (9, 0)
    assert await till.broken() == []


async def test_two_replicas_grant_no_more_between_them(till: Till) -> None:
    wallet = await till.wallet(300)
    tellers = [Teller(till.replica(f"replica-{n}"), regret=_no_regret, patience_s=30) for n in range(2)]
    replies = await asyncio.gather(*(tellers[n % 2].open(till.ask(wallet, 10)) for n in range(200)))
    assert statuses(replies).count("ok") == 30
    assert (await till.balance(wallet)).available == 0
    assert await till.broken() == []


async def test_first_calls_of_a_new_user_share_one_allowance(till: Till) -> None:
    wallet = await till.wallet(due=True)
    tellers = [Teller(till.replica(f"replica-{n}"), regret=_no_regret, patience_s=30) for n in range(4)]
    plan = Plan(320)
    replies = await asyncio.gather(*(tellers[n % 4].open(till.ask(wallet, 10, plan=plan)) for n in range(64)))
    assert statuses(replies).count("ok") == 32
    assert (await till.bank.balance(wallet, plan)).spendable == 320
    assert await till.broken() == []


async def test_calls_that_come_together_share_a_trip(till: Till) -> None:
    bank = Counting(till)
    bank.gate.clear()
    teller = Teller(bank, regret=_no_regret, lanes=1)
    wallet = await till.wallet(100)
    tasks = [asyncio.create_task(teller.open(till.ask(wallet, 1))) for _ in range(50)]
    while not bank.trips:
        await asyncio.sleep(0)
    bank.gate.set()
    await asyncio.gather(*tasks)
    assert sum(bank.trips) == 50 and len(bank.trips) <= 2


async def test_a_locked_wallet_delays_only_its_own_call(till: Till) -> None:
    stuck, free = await till.wallet(100), await till.wallet(100)
    teller = Teller(till.bank, regret=_no_regret, lanes=1, patience_s=30)
    async with locked(till.engine, stuck):
        waiting = asyncio.create_task(teller.open(till.ask(stuck, 10)))
        async with asyncio.timeout(30):
            assert statuses([await teller.open(till.ask(free, 10)) for _ in range(5)]) == ["ok"] * 5
        assert not waiting.done()
    assert (await waiting).status == "ok"


async def test_a_wallet_locked_for_longer_than_the_patience_is_a_busy_bank(till: Till) -> None:
    wallet = await till.wallet(100)
    teller = Teller(till.bank, regret=_no_regret, patience_s=0.05)
    held = await till.hold(wallet, 10)
    async with locked(till.engine, wallet):
        with pytest.raises(BankBusy):
            await teller.open(till.ask(wallet, 10))
        with pytest.raises(BankBusy):
            await teller.beat(till.beat(held, 5, target=20))
    assert (await till.balance(wallet)).held == 10
    assert await till.value("SELECT checkpoint FROM holds WHERE id = $1", held.request_id) == 5


async def test_who_stood_in_a_long_line_is_not_sent_away_at_the_first_lock(till: Till) -> None:
    class Slow(PostgresBank):
        """Each trip takes longer than the teller's patience; the first who asks finds the wallet locked."""

        trips = 0

        async def open_holds(self, asks: Sequence[HoldAsk]) -> list[HoldReply]:
            self.trips += 1
            await asyncio.sleep(0.2)
            if self.trips == 1:
                return [HoldReply(HoldStatus.BUSY, 0, 0) for _ in asks]
            return await super().open_holds(asks)

    bank = Slow(till.engine, owner="replica-1")
    teller = Teller(bank, regret=_no_regret, patience_s=0.1)
    assert (await teller.open(till.ask(await till.wallet(100), 10))).status == "ok" and bank.trips == 2


async def test_an_extension_waits_for_a_locked_wallet(till: Till) -> None:
    wallet = await till.wallet(100)
    teller = Teller(till.bank, regret=_no_regret, patience_s=30)
    held = await till.hold(wallet, 10)
    async with locked(till.engine, wallet):
        extending = asyncio.create_task(teller.beat(till.beat(held, 5, target=20)))
        await asyncio.sleep(0.05)
        assert not extending.done()
    assert (await extending).amount == 20


async def test_an_ask_the_bank_refuses_fails_alone(till: Till) -> None:
    wallet = await till.wallet(100)
    teller = Teller(till.bank, regret=_no_regret, lanes=1)
    spoilt = msgspec.structs.replace(facts_of(), model="\0")
    asks = [till.ask(wallet, 10) for _ in range(4)]
    poison = HoldAsk(asks[0].request_id, wallet, 10, 10, 1, 1, spoilt)
    answers = await asyncio.gather(
        *(teller.open(ask) for ask in (asks[1], poison, asks[2], asks[3])), return_exceptions=True
    )
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False, False]
    assert (await till.balance(wallet)).held == 30


async def test_a_hold_nobody_knows_of_is_voided(till: Till) -> None:
    """The answer was lost after the commit: the call is refused and what it may have held is given back."""
    wallet = await till.wallet(100)
    regrets: list[Settlement] = []
    bank = Forgetful(till.engine, owner="replica-1")
    bank.lost = True
    with pytest.raises(BankUnavailable):
        await Teller(bank, regret=regrets.append).open(till.ask(wallet, 60))
    assert (await till.balance(wallet)).held == 60
    await till.bank.close(regrets)
    assert (await till.balance(wallet)).held == 0
    assert await till.broken() == []


async def test_a_caller_who_leaves_while_its_hold_is_opened_leaves_no_hold(till: Till) -> None:
    wallet = await till.wallet(100)
    regrets: list[Settlement] = []
    bank = Counting(till)
    bank.gate.clear()
    call = asyncio.create_task(Teller(bank, regret=regrets.append).open(till.ask(wallet, 60)))
    while not bank.trips:
        await asyncio.sleep(0)
    call.cancel()
    bank.gate.set()
    while not regrets:
        await asyncio.sleep(0.001)
    await till.bank.close(regrets)
    balance = await till.balance(wallet)
    assert (balance.spendable, balance.held) == (100, 0)


async def test_a_full_counter_is_an_unavailable_bank(till: Till) -> None:
    bank = Counting(till)
    bank.gate.clear()
    teller = Teller(bank, regret=_no_regret, lanes=1, waiting=1)
    wallet = await till.wallet(100)
    tasks = [asyncio.create_task(teller.open(till.ask(wallet, 10)))]
    while not bank.trips:
        await asyncio.sleep(0)
    tasks.append(asyncio.create_task(teller.open(till.ask(wallet, 10))))
    await asyncio.sleep(0)
    with pytest.raises(BankUnavailable):
        await teller.open(till.ask(wallet, 10))
    bank.gate.set()
    assert statuses(await asyncio.gather(*tasks)) == ["ok", "ok"]


async def test_beats_of_many_calls_each_get_their_answer(till: Till) -> None:
    wallet = await till.wallet(100)
    holds = [await till.hold(wallet, 10) for _ in range(5)]
    teller = Teller(till.bank, regret=_no_regret)
    replies = await asyncio.gather(*(teller.beat(till.beat(hold, 1, 10 + n)) for n, hold in enumerate(holds)))
    assert [reply.amount for reply in replies] == [10, 11, 12, 13, 14]


def test_a_void_says_that_nothing_was_consumed() -> None:
    said = void(UUID(int=1), UUID(int=2), facts_of())
    assert said.void and said.amount == 0 and said.usage.tokens == 0

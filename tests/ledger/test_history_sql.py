"""A few hundred things that happen to a bank, many at once, in no order: afterwards every invariant holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger.hold import Settlement
from ledger.ids import uuid7
from ledger.journal import TOKENS
from ledger.period import Plan
from ledger.price import BY_TOKENS, PPM, TOKEN_PRICE
from ledger.store import (
    BankBusy,
    BudgetAsk,
    CallRunning,
    CreditKind,
    CreditOrder,
    HoldAsk,
    NotEnough,
    OutsideOrder,
    RefundTooLarge,
    WalletBusy,
)
from ledger.store_sql import PostgresBank
from ledger.usage import Usage
from ledger.verify import drained
from ledger.wallet import token_wallet_id
from tests.ledger.till import Till, facts_of

_ROUNDS, _AT_ONCE = 40, 8
_PLANS = [None, Plan(80, "day", name="free"), Plan(200, "month", "Asia/Kolkata", name="pro")]
_KINDS: list[CreditKind] = ["payment", "grant", "adjustment", "refund", "deduct"]
# What a person may be told instead of a result; nothing of it is booked.
_NO = (NotEnough, RefundTooLarge, CallRunning, WalletBusy, BankBusy, ValueError, LookupError)


class Town:
    """Some people with wallets of money and tokens, two budgets they share, and the calls they make."""

    def __init__(self, till: Till, chance: random.Random) -> None:
        self.till = till
        self.chance = chance
        self.banks = [till.replica("one"), till.replica("two")]
        self.wallets: list[UUID] = []
        self.budgets = [BudgetAsk(uuid4(), 600), BudgetAsk(uuid4(), 1500)]
        self.running: list[HoldAsk] = []
        self.ended: list[HoldAsk] = []

    async def settle_in(self) -> None:
        for n in range(5):
            self.wallets.append(await self.till.wallet(n * 100, due=n % 2 == 1))
            await self.till.bank.open_wallet(token_wallet_id(self.wallets[-1]), TOKENS)

    @property
    def bank(self) -> PostgresBank:
        return self.chance.choice(self.banks)

    async def call(self) -> None:
        wallet, tokens = self.chance.choice(self.wallets), self.chance.random() < 0.25
        budgets = tuple(self.chance.sample(self.budgets, self.chance.randint(0, 2)))
        plan, house = self.chance.choice(_PLANS), self.chance.random() < 0.1
        wanted = 0 if house else self.chance.randint(1, 90)
        version = BY_TOKENS if tokens else self.till.price_version
        ask = HoldAsk(
            uuid7(), token_wallet_id(wallet) if tokens else wallet, wanted,
            min(wanted, 5), version, PPM, facts_of(house=house), plan, budgets,
        )  # fmt: skip
        [reply] = await self.bank.open_holds([ask])
        if reply.status == "ok":
            self.running.append(ask)

    async def beat(self) -> None:
        if self.running:
            ask = self.chance.choice(self.running)
            beat = self.till.beat(ask, self.chance.randint(0, 60), self.chance.choice([0, 50, 200]))
            await asyncio.gather(*(bank.beat([beat]) for bank in self.banks))

    async def end(self) -> None:
        if self.running:
            ask = self.running.pop(self.chance.randrange(len(self.running)))
            event = self.till.event(ask, self.chance.randint(0, 120))
            if self.chance.random() < 0.2:
                event = msgspec.structs.replace(event, void=True, amount=0, usage=Usage())
            await self.post(event)
            self.ended.append(ask)

    async def post(self, event: Settlement) -> None:
        left: tuple[Settlement, ...] = (event,)
        while left:
            left = (await self.bank.close(left)).busy
            await asyncio.sleep(0.001)

    async def say_again(self) -> None:
        if self.ended:
            ask = self.chance.choice(self.ended)
            await self.post(self.till.event(ask, self.chance.randint(0, 120)))

    async def fall_silent(self) -> None:
        if self.running:
            ask = self.running.pop(self.chance.randrange(len(self.running)))
            await self.till.past(ask, "expires_at")
            self.ended.append(ask)
            await asyncio.gather(*(bank.reap() for bank in self.banks))

    async def free(self) -> None:
        await self.till.sql(
            "UPDATE holds SET release_at = now() - interval '1 second' WHERE id IN "
            "(SELECT id FROM holds WHERE state = 'quarantine' LIMIT 2)"
        )
        await asyncio.gather(*(bank.release() for bank in self.banks))

    async def credit(self) -> None:
        kind, amount = self.chance.choice(_KINDS), self.chance.randint(1, 150)
        sign = -1 if kind == "adjustment" and self.chance.random() < 0.5 else 1
        wallet = self.chance.choice(self.wallets)
        if self.chance.random() < 0.3:
            wallet = token_wallet_id(wallet)
        ends = datetime.now(UTC) + timedelta(hours=1) if self.chance.random() < 0.3 else None
        order = CreditOrder(wallet, kind, sign * amount, "", f"c{self.chance.randint(0, 300)}", ends)
        await self.bank.adjust(order)

    async def refund(self) -> None:
        if self.ended:
            ask, amount = self.chance.choice(self.ended), self.chance.choice([None, 5, 20, 60])
            source = f"r{self.chance.randint(0, 5)}"
            await self.bank.refund(ask.request_id, amount, reason="", source=source)

    async def work_outside(self) -> None:
        wallet, amount = self.chance.choice(self.wallets), self.chance.randint(0, 80)
        tokens = self.chance.random() < 0.3
        order = OutsideOrder(
            f"job{self.chance.randint(0, 60)}", token_wallet_id(wallet) if tokens else wallet, facts_of(),
            Usage(output=amount), TOKEN_PRICE if tokens else None, PPM, "", None if tokens else amount,
            datetime.now(UTC), self.chance.choice(_PLANS), self.chance.random() < 0.5,
        )  # fmt: skip
        await self.bank.charge_outside(order)

    async def let_time_pass(self) -> None:
        """Some money ends at once, and its wallet is due."""
        found = await self.till.sql(
            "SELECT id, wallet_id FROM grants WHERE remaining > 0 AND kind <> 'paid' ORDER BY random() LIMIT 1"
        )
        for row in found:
            await self.till.sql("UPDATE grants SET expires_at = now() WHERE id = $1", row["id"])
            await self.till.sql("UPDATE wallets SET due_at = now() WHERE id = $1", row["wallet_id"])

    async def renew(self) -> None:
        wallet = self.chance.choice(self.wallets)
        await self.till.sql("UPDATE wallets SET due_at = '-infinity' WHERE id = $1", wallet)
        await self.bank.balance(wallet, self.chance.choice(_PLANS))

    async def merge(self) -> None:
        if self.chance.random() < 0.15:
            await self.bank.merge(*self.chance.sample(self.wallets, 2))
        await self.bank.follow_merges()

    async def something(self) -> None:
        steps: list[Callable[[], Awaitable[None]]] = [
            self.call, self.call, self.call, self.beat, self.end, self.end, self.say_again, self.fall_silent, self.free,
            self.credit, self.credit, self.refund, self.refund, self.work_outside, self.let_time_pass, self.renew,
            self.merge,
        ]  # fmt: skip
        with suppress(*_NO):
            await self.chance.choice(steps)()


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_the_ledger_verifies(till: Till, seed: int) -> None:
    town = Town(till, random.Random(seed))
    await town.settle_in()
    for n in range(_ROUNDS):
        await asyncio.gather(*(town.something() for _ in range(_AT_ONCE)))
        if n % 10 == 0:
            assert await till.broken() == []
    for ask in list(town.running):
        await town.post(till.event(ask, 10))
    # What fell silent was perhaps heard of again, or locked when it was looked for.
    while await till.sql("SELECT 1 FROM holds WHERE state IN ('open', 'quarantine')"):
        await till.sql("UPDATE holds SET expires_at = '-infinity', release_at = '-infinity'")
        await till.bank.reap()
        await till.bank.release()
    assert await till.broken() == []
    assert (await drained(till.engine)).holds

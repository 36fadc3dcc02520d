"""Everything the bank does, at once, on few wallets, by several replicas: the ledger adds up and nothing blocks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.period import Plan
from ledger.store import BankBusy, HoldAsk
from ledger.store_sql import PostgresBank, make_engine
from ledger.teller import Teller, void
from ledger.verify import drained
from tests.ledger.till import Till

_PLAN = Plan(500, "day")
_SECONDS = 4.0


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url, size=40, command_timeout_s=60, lock_timeout_ms=30_000)
    yield engine
    await engine.dispose()


class Town:
    """A few wallets, three replicas with very short holds, and people who do everything at random."""

    def __init__(self, till: Till, wallets: list[UUID]) -> None:
        self.till = till
        self.wallets = wallets
        self.banks = [till.replica(f"replica-{n}", ttl_s=0.05, horizon_s=0.3) for n in range(3)]
        self.tellers = [Teller(bank, regret=self._regret, patience_s=30) for bank in self.banks]
        self.seen: Counter[str] = Counter()
        self.random = random.Random(11)
        self.stop = asyncio.Event()

    def _regret(self, event: object) -> None:
        self.seen["regret"] += 1

    async def repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while not self.stop.is_set():
            try:
                await step()
            except BankBusy:
                self.seen["busy"] += 1

    async def call(self) -> None:
        """Open, beat, and end in one of the ways a call ends: settled, voided, twice, late, or never."""
        which = self.random.randrange(3)
        bank, teller = self.banks[which], self.tellers[which]
        ask = self.till.ask(self.random.choice(self.wallets), self.random.randrange(30), minimum=1, plan=_PLAN)
        reply = await teller.open(ask)
        self.seen[f"open {reply.status}"] += 1
        if reply.status != "ok":
            return await asyncio.sleep(0.002)
        used = 0
        for _ in range(self.random.randrange(4)):
            used += self.random.randrange(10)
            beaten = await teller.beat(self.till.beat(ask, used, used + 20))
            self.seen["beat alive" if beaten.alive else "beat lost"] += 1
            await asyncio.sleep(self.random.choice([0, 0.001, 0.08]))
        return await self.end(bank, ask, used)

    async def end(self, bank: PostgresBank, ask: HoldAsk, used: int) -> None:
        way = self.random.choice(["settle"] * 6 + ["void", "twice", "late", "never"])
        self.seen[way] += 1
        if way == "never":
            return
        if way == "late":
            await asyncio.sleep(0.5)
        final = void(ask.request_id, ask.wallet_id, ask.facts) if way == "void" else self.till.event(ask, used + 3)
        for _ in range(2 if way == "twice" else 1):
            left = (await bank.close([final])).busy
            while left:
                await asyncio.sleep(0.001)
                left = (await bank.close(left)).busy

    async def batch(self) -> None:
        """Ten calls over all wallets, opened, extended and closed together, in an order of their own."""
        asks = [self.till.ask(self.random.choice(self.wallets), 10, minimum=1, plan=_PLAN) for _ in range(10)]
        bank = self.random.choice(self.banks)
        replies = await bank.open_holds(asks)
        held = [ask for ask, reply in zip(asks, replies, strict=True) if reply.status == "ok"]
        self.random.shuffle(held)
        await bank.beat([self.till.beat(ask, 4, 15) for ask in held])
        self.random.shuffle(held)
        left = [self.till.event(ask, 6) for ask in held]
        while left:
            left = list((await bank.close(left)).busy)
            await asyncio.sleep(0)
        self.seen["batch"] += 1

    async def sweep(self) -> None:
        bank = self.random.choice(self.banks)
        self.seen["reaped"] += await bank.reap()
        self.seen["released"] += await bank.release()
        await asyncio.sleep(0.01)

    async def pay(self) -> None:
        wallet, soon = self.random.choice(self.wallets), datetime.now(UTC) + timedelta(seconds=self.random.random())
        ends = self.random.choice([None, soon])
        kind, funding = ("paid", "cash:test") if ends is None else ("promo", "exp:promo")
        bank = self.random.choice(self.banks)
        await bank.credit(wallet, 200, kind, source=str(uuid4()), funding=funding, expires_at=ends)  # type: ignore[arg-type]
        self.seen["credit"] += 1
        await asyncio.sleep(0.02)

    async def look(self) -> None:
        await self.random.choice(self.banks).balance(self.random.choice(self.wallets), _PLAN)
        await asyncio.sleep(0.005)

    async def live(self, seconds: float) -> None:
        people = [self.call] * 20 + [self.batch] * 3 + [self.sweep] * 2 + [self.pay] * 2 + [self.look] * 2
        tasks = [asyncio.create_task(self.repeat(step)) for step in people]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        self.stop.set()
        await asyncio.gather(*tasks)


async def test_everything_at_once_adds_up_and_nobody_waits_for_ever(till: Till) -> None:
    wallets = [await till.wallet(50, due=True) for _ in range(4)]
    town = Town(till, wallets)
    async with asyncio.timeout(60):
        await town.live(_SECONDS)
        await asyncio.sleep(0.4)
        while await till.bank.reap() + await till.bank.release():
            pass
    assert await till.broken() == []
    assert (await drained(till.engine)).holds
    # Nothing hangs together by luck: every way of going wrong was met, and nobody met a deadlock or a lock timeout.
    for event in (
        "open ok",
        "beat alive",
        "beat lost",
        "reaped",
        "released",
        "credit",
        "batch",
        "late",
        "twice",
        "void",
    ):
        assert town.seen[event] > 0, town.seen
    assert town.seen["busy"] == town.seen["regret"] == 0, town.seen
    assert await till.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    revs = await till.sql("SELECT rev, count(*) AS n FROM charges GROUP BY rev")
    assert {row["rev"] for row in revs} == {"provisional", "final", "late"}

"""A bank with a price list of one line: a token out costs one nano-USD, so usage and money are the same number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.hold import CallFacts, Outcome, Settlement
from ledger.ids import uuid7
from ledger.period import Plan
from ledger.store import Balance, Beat, BudgetAsk, HoldAsk, HoldReply
from ledger.store_sql import PostgresBank
from ledger.usage import Usage, UsageSource
from ledger.verify import verify

PPM = 1_000_000


def facts_of(*, house: bool = False) -> CallFacts:
    return CallFacts(user_id=uuid4(), tier="free", model="m", route="chat.completions", house=house)


class Till:
    """``bank`` on the test's own database, and what a test wants to say of wallets, calls and facts in few words."""

    def __init__(self, engine: AsyncEngine, price_version: int) -> None:
        self.engine = engine
        self.price_version = price_version
        self.bank = self.replica("replica-1")

    @classmethod
    async def open(cls, engine: AsyncEngine) -> Till:
        till = cls(engine, 0)
        rows = await till.sql(
            """INSERT INTO prices (model_id, doc) VALUES ('m', '{"pico": {"output": 1000}}') RETURNING version"""
        )
        till.price_version = rows[0]["version"]
        return till

    def replica(self, owner: str, *, ttl_s: float = 15.0, horizon_s: float = 615.0) -> PostgresBank:
        return PostgresBank(self.engine, owner=owner, ttl_s=ttl_s, horizon_s=horizon_s)

    async def wallet(self, paid: int = 0, *, due: bool = False) -> UUID:
        """A wallet with so much paid money; ``due``: as the accounts make it, its first allowance not yet booked."""
        wallet_id = uuid7()
        due_at = "-infinity" if due else "infinity"
        await self.sql(f"INSERT INTO wallets (id, due_at) VALUES ($1, '{due_at}')", wallet_id)
        if paid:
            await self.bank.credit(wallet_id, paid, "paid", source=f"paid:{uuid4()}", funding="cash:test")
        return wallet_id

    def ask(
        self,
        wallet_id: UUID,
        wanted: int,
        minimum: int | None = None,
        *,
        plan: Plan | None = None,
        house: bool = False,
        budgets: tuple[BudgetAsk, ...] = (),
    ) -> HoldAsk:
        least = wanted if minimum is None else minimum
        facts = facts_of(house=house)
        return HoldAsk(uuid7(), wallet_id, wanted, least, self.price_version, PPM, facts, plan, budgets)

    async def hold(
        self, wallet_id: UUID, amount: int, *, bank: PostgresBank | None = None, budgets: tuple[BudgetAsk, ...] = ()
    ) -> HoldAsk:
        """A hold that the bank must grant."""
        ask = self.ask(wallet_id, amount, budgets=budgets)
        [reply] = await (bank or self.bank).open_holds([ask])
        assert reply.status == "ok", reply
        return ask

    def event(self, ask: HoldAsk, amount: int, outcome: Outcome = Outcome.COMPLETED) -> Settlement:
        """The process's word that this call used so many tokens, which is so many nano-USD."""
        return Settlement(
            request_id=ask.request_id,
            wallet_id=ask.wallet_id,
            usage=Usage(output=amount),
            source=UsageSource.REPORTED,
            amount=amount,
            price_version=ask.price_version,
            factor_ppm=ask.factor_ppm,
            outcome=outcome,
            at=datetime.now(UTC),
            facts=ask.facts,
        )

    async def charge(self, wallet_id: UUID, amount: int, *, held: int | None = None) -> HoldAsk:
        """A call that has ended and was charged so much."""
        ask = await self.hold(wallet_id, amount if held is None else held)
        await self.bank.close([self.event(ask, amount)])
        return ask

    def beat(self, ask: HoldAsk, used: int, target: int = 0) -> Beat:
        return Beat(ask.request_id, ask.wallet_id, used, Usage(output=used), target)

    async def balance(self, wallet_id: UUID) -> Balance:
        return await self.bank.balance(wallet_id, None)

    async def sql(self, query: str, *args: Any) -> list[Any]:
        async with self.engine.connect() as pooled:
            driver = (await pooled.get_raw_connection()).driver_connection
            assert driver is not None
            return list(await driver.fetch(query, *args))

    async def value(self, query: str, *args: Any) -> Any:
        return (await self.sql(query, *args))[0][0]

    async def state(self, ask: HoldAsk) -> str:
        return str(await self.value("SELECT state FROM holds WHERE id = $1", ask.request_id))

    async def past(self, ask: HoldAsk, column: str) -> None:
        """Let ``expires_at`` or ``release_at`` of a hold have passed."""
        assert column in ("expires_at", "release_at")
        await self.sql(
            f"UPDATE holds SET {column} = clock_timestamp() - interval '1 second' WHERE id = $1", ask.request_id
        )

    async def charges(self, ask: HoldAsk) -> dict[str, int]:
        rows = await self.sql("SELECT rev, amount FROM charges WHERE request_id = $1", ask.request_id)
        return {row["rev"]: row["amount"] for row in rows}

    async def posted(self, account: str) -> int:
        """What stands on an account: debits less credits."""
        return int(await self.value("SELECT coalesce(sum(amount), 0) FROM postings WHERE account = $1", account))

    async def broken(self) -> list[str]:
        """The names of the invariants that do not hold."""
        return [finding.name for finding in await verify(self.engine) if not finding.holds]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Return when it holds; fail when it does not within the bound."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


def statuses(replies: list[HoldReply]) -> list[str]:
    return [reply.status.value for reply in replies]


@asynccontextmanager
async def locked(engine: AsyncEngine, row_id: UUID, table: str = "wallets") -> AsyncIterator[None]:
    """Somebody else keeps this row locked."""
    async with engine.connect() as pooled:
        driver: Any = (await pooled.get_raw_connection()).driver_connection
        async with driver.transaction():
            await driver.execute(f"SELECT 1 FROM {table} WHERE id = $1 FOR NO KEY UPDATE", row_id)
            yield


async def waits_for_a_lock(till: Till) -> bool:
    """Whether anybody in this database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await till.value(waiting))

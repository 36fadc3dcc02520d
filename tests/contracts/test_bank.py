"""The bank in Postgres and its twin on dictionaries: the same operations give the same replies and the same books.

What is random is the sequence: hypothesis draws it, and both banks get it. Ids are given by the caller or left out of
the comparison; instants are each bank's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.hold import CallFacts, Outcome, Settlement
from ledger.ids import uuid7
from ledger.period import Plan
from ledger.store import Beat, BudgetAsk, CallRunning, CreditOrder, HoldAsk, NotEnough, RefundTooLarge
from ledger.store_sql import PostgresBank, make_engine
from ledger.usage import Usage, UsageSource
from simulation.bank import MemoryBank
from simulation.invariants import broken
from simulation.tables import EVER, Tables, WalletRow

REFUSALS = (NotEnough, RefundTooLarge, CallRunning, LookupError, ValueError)
WALLETS, CALLS = 2, 5
PLANS = (None, Plan(300, name="small"), Plan(900, "day", name="large"))

amounts = st.integers(0, 400)
wallets = st.integers(0, WALLETS - 1)
calls = st.integers(0, CALLS - 1)
OPERATIONS = st.one_of(
    st.tuples(st.just("open"), calls, wallets, amounts, amounts, st.integers(0, 2), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("open"), calls, wallets, amounts, amounts, st.integers(0, 2), st.integers(0, 2), st.booleans()),
    st.tuples(
        st.just("rush"),
        st.lists(st.tuples(calls, wallets, st.integers(0, 150), st.integers(0, 1)), min_size=3, max_size=5),
    ),
    st.tuples(st.just("beat"), calls, amounts, amounts, st.booleans()),
    st.tuples(st.just("close"), st.lists(st.tuples(calls, amounts, st.booleans()), min_size=1, max_size=3)),
    st.tuples(st.just("close"), st.lists(st.tuples(calls, amounts, st.booleans()), min_size=1, max_size=3)),
    st.tuples(st.just("credit"), wallets, st.integers(1, 500), st.sampled_from(("paid", "promo")), st.booleans()),
    st.tuples(st.just("adjust"), wallets, st.integers(-200, 200), st.integers(0, 2)),
    st.tuples(st.just("refund"), calls, st.none() | st.integers(1, 200), st.integers(0, 2)),
    st.tuples(st.just("balance"), wallets, st.integers(0, 2)),
    st.tuples(st.just("suspend"), wallets, st.booleans()),
    st.sampled_from((("reap",), ("release",), ("drift",))),
)


@dataclass
class Side:
    """One of the two banks. Holds of ``silent`` are past their end, and their horizon, at once."""

    bank: PostgresBank
    silent: PostgresBank
    wallets: list[UUID]
    engine: AsyncEngine | None = None
    tables: Tables | None = None

    async def told(self, wallet_id: UUID, state: str) -> None:
        """What accounts do to a wallet beside the bank: suspend it, and have it looked at."""
        if self.tables is not None:
            self.tables.wallets[wallet_id].state = state
        else:
            await self.sql("UPDATE wallets SET state = $2 WHERE id = $1", wallet_id, state)

    async def sql(self, query: str, *args: Any) -> list[Any]:
        assert self.engine is not None
        async with self.engine.connect() as pooled:
            driver = (await pooled.get_raw_connection()).driver_connection
            assert driver is not None
            return list(await driver.fetch(query, *args))


class Pair:
    """Both, asked the same. Calls have the same id on both sides; a call opened again is the same call again."""

    def __init__(self, real: Side, twin: Side) -> None:
        self.sides = (real, twin)
        self.calls = [uuid7() for _ in range(CALLS)]
        self.budgets = [uuid7() for _ in range(2)]
        self.of: dict[int, int] = {}
        self.user = uuid7()
        self.turn = 0

    async def ask(self, operation: tuple[Any, ...]) -> None:
        """The same operation on both sides; raises AssertionError where the answers differ."""
        self.turn += 1
        answers = [await self._answer(side, *operation) for side in self.sides]
        assert answers[0] == answers[1], operation

    async def _answer(self, side: Side, name: str, *args: Any) -> Any:
        try:
            return await getattr(self, name)(side, *args)
        except REFUSALS as refusal:
            return type(refusal).__name__, getattr(refusal, "available", None), getattr(refusal, "left", None)

    def facts(self, house: bool = False) -> CallFacts:
        return CallFacts(user_id=self.user, tier="t", model="m", route="r", house=house)

    async def open(
        self, side: Side, call: int, wallet: int, wanted: int, minimum: int, plan: int, budgets: int, silent: bool
    ) -> Any:
        ask = self.asked(side, call, wallet, wanted, minimum, plan, budgets)
        return await (side.silent if silent else side.bank).open_holds([ask])

    async def rush(self, side: Side, asks: list[tuple[int, int, int, int]]) -> Any:
        """Several calls at once."""
        return await side.bank.open_holds(
            [self.asked(side, call, wallet, wanted, wanted, 0, budgets) for call, wallet, wanted, budgets in asks]
        )

    def asked(self, side: Side, call: int, wallet: int, wanted: int, minimum: int, plan: int, budgets: int) -> HoldAsk:
        self.of.setdefault(call, wallet)
        budgets_asked = tuple(BudgetAsk(each, 150 + 100 * at) for at, each in enumerate(self.budgets[:budgets]))
        house = call == 0
        return HoldAsk(
            self.calls[call],
            side.wallets[wallet],
            wanted,
            min(minimum, wanted),
            1,
            10**6,
            self.facts(house),
            PLANS[plan],
            budgets_asked,
        )

    async def beat(self, side: Side, call: int, used: int, target: int, silent: bool) -> Any:
        wallet_id = side.wallets[self.of.get(call, 0)]
        beat = Beat(self.calls[call], wallet_id, used, Usage(output=used), target, 0)
        return await (side.silent if silent else side.bank).beat([beat])

    async def close(self, side: Side, words: list[tuple[int, int, bool]]) -> Any:
        unposted = await side.bank.close([self.word(side, *word) for word in words])
        return [event.request_id for event in unposted.unknown], [event.request_id for event in unposted.busy]

    def word(self, side: Side, call: int, amount: int, void: bool) -> Settlement:
        return Settlement(
            request_id=self.calls[call],
            wallet_id=side.wallets[self.of.get(call, 0)],
            usage=Usage() if void else Usage(output=amount),
            source=UsageSource.COUNTED,
            amount=0 if void else amount,
            price_version=1,
            factor_ppm=10**6,
            outcome=Outcome.COMPLETED,
            at=datetime.now(UTC),
            facts=self.facts(call == 0),
            void=void,
        )

    async def credit(self, side: Side, wallet: int, amount: int, kind: Any, ended: bool) -> Any:
        expires_at = datetime.now(UTC) - timedelta(hours=1) if ended else None
        source, funding = f"turn:{self.turn // 2}", f"cash:{kind}"
        return await side.bank.credit(
            side.wallets[wallet], amount, kind, source=source, funding=funding, expires_at=expires_at
        )

    async def adjust(self, side: Side, wallet: int, amount: int, source: int) -> Any:
        order = CreditOrder(side.wallets[wallet], "adjustment", amount, "because", f"s{source}")
        done = await side.bank.adjust(order)
        return done.amount, done.created, done.spendable, done.held

    async def refund(self, side: Side, call: int, amount: int | None, source: int) -> Any:
        done = await side.bank.refund(self.calls[call], amount, reason="because", source=f"s{source}")
        return done.amount, done.refunded_in_all, done.created

    async def balance(self, side: Side, wallet: int, plan: int) -> Any:
        return await side.bank.balance(side.wallets[wallet], PLANS[plan])

    async def suspend(self, side: Side, wallet: int, suspended: bool) -> Any:
        await side.told(side.wallets[wallet], "suspended" if suspended else "active")

    async def reap(self, side: Side) -> Any:
        return await side.bank.reap()

    async def release(self, side: Side) -> Any:
        return await side.bank.release()

    async def drift(self, side: Side) -> Any:
        return await side.bank.drift()

    async def books(self) -> None:
        """Wallets, grants, holds, charges, legs and budgets are the same on both sides."""
        real, twin = self.sides
        assert twin.tables is not None
        names = {each: f"wallet-{at}" for side in self.sides for at, each in enumerate(side.wallets)}
        assert await _of_real(real, self, names) == _of_twin(twin.tables, self, names)
        assert not broken(twin.tables, {}) or all("I6" in line for line in broken(twin.tables, {}))


async def _of_real(side: Side, pair: Pair, names: dict[UUID, str]) -> dict[str, Any]:
    mine, ids = side.wallets, pair.calls
    holds = "id, wallet_id, amount, spent, state, checkpoint, usage::text AS usage, price_version, budget_ids"
    return _named(
        names,
        await side.sql("SELECT id, spendable, held, state FROM wallets WHERE id = ANY ($1)", mine),
        await side.sql(
            "SELECT wallet_id, kind, amount, remaining, priority, source, funding FROM grants "
            "WHERE wallet_id = ANY ($1)", mine
        ),
        await side.sql(f"SELECT {holds} FROM holds WHERE id = ANY ($1)", ids),
        await side.sql(
            "SELECT request_id, rev, amount, overrun, outcome, house FROM charges WHERE request_id = ANY ($1)", ids
        ),
        await side.sql(
            "SELECT e.kind, p.account, p.amount, p.line, p.wallet_id, g.source FROM postings p "
            "JOIN journal_entries e ON e.id = p.entry_id LEFT JOIN grants g ON g.id = p.grant_id "
            "WHERE p.entry_id IN (SELECT entry_id FROM postings WHERE wallet_id = ANY ($1)) "
            "OR p.entry_id IN (SELECT entry_id FROM charges WHERE request_id = ANY ($2)) "
            "OR p.entry_id IN (SELECT entry_id FROM refunds WHERE request_id = ANY ($2))", mine, ids
        ),
        await side.sql("SELECT id, spent, held FROM budgets WHERE id = ANY ($1)", pair.budgets),
    )  # fmt: skip


def _of_twin(tables: Tables, pair: Pair, names: dict[UUID, str]) -> dict[str, Any]:
    as_dict = msgspec.structs.asdict
    legs = [
        {
            "kind": tables.entries[leg.entry_id].kind,
            **as_dict(leg),
            "source": tables.grants[leg.grant_id].source if leg.grant_id else None,
        }
        for leg in tables.postings.values()
    ]
    return _named(
        names,
        [as_dict(row) for row in tables.wallets.values()],
        [as_dict(row) for row in tables.grants.values()],
        [as_dict(row) for row in tables.holds.values()],
        [as_dict(row) for row in tables.charges.values()],
        legs,
        [as_dict(row) for row in tables.budgets.values()],
    )


_COLUMNS = {
    "wallets": ("id", "spendable", "held", "state"),
    "grants": ("wallet_id", "kind", "amount", "remaining", "priority", "source", "funding"),
    "holds": ("id", "wallet_id", "amount", "spent", "state", "checkpoint", "usage", "price_version", "budget_ids"),
    "charges": ("request_id", "rev", "amount", "overrun", "outcome", "house"),
    "legs": ("kind", "account", "amount", "line", "wallet_id", "source"),
    "budgets": ("id", "spent", "held"),
}


def _named(names: dict[UUID, str], *tables: Any) -> dict[str, Any]:
    """Rows in an order of their own, with wallets by name."""

    def shown(column: str, value: Any) -> str:
        if column == "usage":
            return str(msgspec.json.decode(value))
        text = str(value)
        for wallet_id, name in names.items():
            text = text.replace(str(wallet_id), name)
        return text

    return {
        table: sorted([shown(column, row[column]) for column in columns] for row in rows)
        for (table, columns), rows in zip(_COLUMNS.items(), tables, strict=True)
    }


@pytest.fixture(scope="module")
async def shared(module_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(module_database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    yield engine
    await engine.dispose()


async def a_pair(engine: AsyncEngine) -> Pair:
    """Two banks with two empty wallets each, whose first allowance is due."""
    tables = Tables(lambda: datetime.now(UTC))
    real = Side(
        PostgresBank(engine, owner="one"),
        PostgresBank(engine, owner="one", ttl_s=-1.0, horizon_s=-1.0),
        [uuid7() for _ in range(WALLETS)],
        engine=engine,
    )
    twin = Side(
        MemoryBank(tables, owner="one"),
        MemoryBank(tables, owner="one", ttl_s=-1.0, horizon_s=-1.0),
        [uuid7() for _ in range(WALLETS)],
        tables=tables,
    )
    for wallet_id in real.wallets:
        await real.sql("INSERT INTO wallets (id, due_at) VALUES ($1, '-infinity')", wallet_id)
    for wallet_id in twin.wallets:
        tables.wallets[wallet_id] = WalletRow(wallet_id, due_at=EVER)
    return Pair(real, twin)


@given(operations=st.lists(OPERATIONS, min_size=4, max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_both_banks_answer_alike_and_keep_the_same_books(
    shared: AsyncEngine, operations: list[tuple[Any, ...]]
) -> None:
    pair = await a_pair(shared)
    # What others left silent in this database is theirs: it is swept before, so that counts are this pair's.
    await pair.sides[0].bank.reap()
    await pair.sides[0].bank.release()
    await pair.ask(("credit", 0, 700, "paid", False))
    for operation in operations:
        await pair.ask(operation)
    await pair.books()


async def test_a_call_that_is_reaped_and_speaks_late_is_booked_alike(shared: AsyncEngine) -> None:
    pair = await a_pair(shared)
    await pair.sides[0].bank.reap()
    await pair.sides[0].bank.release()
    for operation in (
        ("credit", 0, 500, "paid", False),
        ("open", 1, 0, 300, 300, 1, 2, True),
        ("beat", 1, 120, 350, True),
        ("reap",),
        ("release",),
        ("close", [(1, 200, False)]),
        ("close", [(1, 200, False)]),
        ("refund", 1, 50, 0),
        ("refund", 1, None, 1),
        ("balance", 0, 1),
    ):
        await pair.ask(operation)
    await pair.books()

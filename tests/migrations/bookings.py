"""Bookings that go on while the schema moves: through the bank's own code where the schema is one it knows, and in
plain SQL on any schema from the first step on. Each tells how long its statements took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from config.watch import driver_options
from ledger.hold import CallFacts, Outcome, Settlement
from ledger.ids import uuid7
from ledger.store import Beat, HoldAsk
from ledger.store_sql import PostgresBank
from ledger.usage import Usage, UsageSource

NAME = "farebox load"
WALLETS = 50
_PAID = 10**15
_PAUSE_S = 0.02
_PPM = 1_000_000
_AMOUNT = 10

Told = Callable[[str, float], None]
"""Is told of each statement, or booking, what it was and how many seconds it took."""

_FIELDS = "(request_id, rev, wallet_id, user_id, tier, model, route, upstream, usage, usage_source, price_version, "
_FIELDS += "factor_ppm, amount, outcome, entry_id, at)"
# In the order in which the bank locks: the wallet, the hold, then facts.
_BOOK = (
    "SELECT 1 FROM wallets WHERE id = $1 FOR NO KEY UPDATE",
    "INSERT INTO holds (id, wallet_id, amount, spent, state, price_version, factor_ppm, facts, owner, expires_at, "
    "release_at) VALUES ($2, $1, 10, 10, 'settled', $5, 1000000, '{}', 'load', now(), now())",
    f"INSERT INTO charges {_FIELDS} VALUES ($2, 'final', $1, $2, 'load', 'm', 'chat.completions', 'load', "
    "'{\"output\": 10}', 'reported', $5, 1000000, 10, 'completed', $4, now())",
    "INSERT INTO journal_entries (id, kind, ref, booked_at) VALUES ($4, 'charge', 'charge:' || $2 || ':final', now())",
    "INSERT INTO postings (entry_id, line, account, amount, wallet_id, grant_id) "
    "VALUES ($4, 0, 'wallet:' || $1 || ':paid', 10, $1, $3), ($4, 1, 'rev:usage', -10, NULL, NULL)",
    "UPDATE grants SET remaining = remaining - 10 WHERE id = $3",
    "UPDATE wallets SET spendable = spendable - 10 WHERE id = $1",
)
_TYPES = ("uuid", "uuid", "uuid", "uuid", "bigint")
# With the charges locked by the row above: whether this schema counts charges into statistics.
_COUNTS = """
    SELECT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'charges'::regclass AND attname = 'currency' AND NOT attisdropped)
"""


async def open_wallets(bank: PostgresBank, connection: asyncpg.Connection) -> tuple[list[UUID], int]:
    """Wallets with money, and the version of a price of one nano-USD for a token out."""
    version = await connection.fetchval(
        """INSERT INTO prices (model_id, doc) VALUES ('m', '{"pico": {"output": 1000}}') RETURNING version"""
    )
    wallets = [uuid7() for _ in range(WALLETS)]
    for wallet in wallets:
        await connection.execute("INSERT INTO wallets (id, due_at) VALUES ($1, 'infinity')", wallet)
        await bank.credit(wallet, _PAID, "paid", source=f"paid:{uuid4()}", funding="cash:load")
    return wallets, version


class BankLoad:
    """Calls through the bank: a hold, a beat that extends it, the settlement. ``allowed`` is cleared while the schema
    is one this code does not know, and then it is ``resting`` soon."""

    def __init__(self, engine: AsyncEngine, wallets: list[UUID], version: int, told: Told) -> None:
        self.bank = PostgresBank(engine, owner="load")
        self._wallets, self._version, self._told = wallets, version, told
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.calls = 0
        self.going = True
        self.resting = asyncio.Event()

    async def run(self) -> None:
        """While it is ``going``."""
        while self.going:
            if not self.allowed.is_set():
                self.resting.set()
                await self.allowed.wait()
                self.resting.clear()
            for wallet in self._wallets[: WALLETS // 2]:
                await self._call(wallet)
                await asyncio.sleep(_PAUSE_S)
                if not (self.going and self.allowed.is_set()):
                    break

    async def _call(self, wallet: UUID) -> None:
        facts = CallFacts(user_id=wallet, tier="load", model="m", route="chat.completions")
        ask = HoldAsk(uuid7(), wallet, _AMOUNT, _AMOUNT, self._version, _PPM, facts, None, ())
        await self._timed("hold", self.bank.open_holds([ask]))
        await self._timed("beat", self.bank.beat([Beat(ask.request_id, wallet, 5, Usage(output=5), 2 * _AMOUNT)]))
        event = Settlement(
            request_id=ask.request_id,
            wallet_id=wallet,
            usage=Usage(output=_AMOUNT),
            source=UsageSource.REPORTED,
            amount=_AMOUNT,
            price_version=self._version,
            factor_ppm=_PPM,
            outcome=Outcome.COMPLETED,
            at=datetime.now(UTC),
            facts=facts,
        )
        await self._timed("settlement", self.bank.close([event]))
        self.calls += 1

    async def _timed(self, what: str, work: Awaitable[object]) -> None:
        begun = time.monotonic()
        await work
        self._told(what, time.monotonic() - begun)


class PlainLoad:
    """The same tables in plain SQL, one transaction a call."""

    def __init__(self, url: str, wallets: list[UUID], version: int, told: Told) -> None:
        self._url, self._wallets, self._version, self._told = url, wallets, version, told
        self.calls = 0
        self.going = True

    async def run(self) -> None:
        """While it is ``going``."""
        options = driver_options(self._url) | {"statement_cache_size": 0}
        connection = await asyncpg.connect(**options, server_settings={"application_name": NAME})
        try:
            while self.going:
                for wallet in self._wallets[WALLETS // 2 :]:
                    await self._call(connection, wallet)
                    await asyncio.sleep(_PAUSE_S)
                    if not self.going:
                        break
        finally:
            connection.terminate()

    async def _call(self, connection: asyncpg.Connection, wallet: UUID) -> None:
        grant = await connection.fetchval("SELECT id FROM grants WHERE wallet_id = $1 AND remaining > 0", wallet)
        values = (wallet, uuid7(), grant, uuid7(), self._version)
        while True:
            try:
                async with connection.transaction():
                    for statement in _BOOK:
                        await self._timed(connection, statement, values)
                    if await connection.fetchval(_COUNTS):
                        await connection.execute("INSERT INTO charges_to_roll VALUES ($1, 'final')", values[1])
                break
            except asyncpg.DeadlockDetectedError:
                continue  # as the poster does: nothing of it was done
        self.calls += 1

    async def _timed(self, connection: asyncpg.Connection, statement: str, values: tuple[object, ...]) -> None:
        named = [n for n in range(1, len(values) + 1) if f"${n}" in statement]
        for place, n in enumerate(named, 1):
            statement = statement.replace(f"${n}", f"CAST(#{place} AS {_TYPES[n - 1]})")
        begun = time.monotonic()
        await connection.execute(statement.replace("#", "$"), *(values[n - 1] for n in named))
        self._told(statement[:30].strip(), time.monotonic() - begun)

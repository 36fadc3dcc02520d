"""Who calls while it is measured: users on the tier `bench`, each with money in a wallet of its own, and their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from accounts.store_sql import Accounts
from accounts.users import User
from bench.databases import connected
from ledger.money import parse_usd
from ledger.store_sql import PostgresBank, make_engine

TIER = "bench"
_CREDIT_USD = "1000000"
_SEEDED = """
    SELECT subject FROM users WHERE realm = 'bench' AND status = 'active' AND subject ~ '^bench-[0-9]+$'
    ORDER BY substr(subject, 7)::bigint
"""


class _Desk(NamedTuple):
    accounts: Accounts
    bank: PostgresBank


async def make_people(database_url: str, pepper: str, count: int) -> list[str]:
    """The keys of so many users made for this."""
    async with _desk(database_url, pepper) as desk:
        return [await _keyed(desk, await _made(desk, number)) for number in range(count)]


async def seat_seeded(database_url: str, pepper: str, count: int) -> list[str]:
    """Keys for so many users of a seeded database, from those who call most to those who hardly do. They get the tier
    and the money, and keep their past. Fewer where there are fewer."""
    async with connected(database_url) as connection:
        subjects = [row[0] for row in await connection.fetch(_SEEDED)]
    async with _desk(database_url, pepper) as desk:
        return [
            await _keyed(desk, await _seeded(desk, subject)) for subject in subjects[:: len(subjects) // count or 1]
        ]


@asynccontextmanager
async def _desk(database_url: str, pepper: str) -> AsyncIterator[_Desk]:
    engine = make_engine(database_url, size=2, command_timeout_s=60, name="farebox bench")
    try:
        accounts = Accounts(engine, pepper=pepper.encode(), default_tier=TIER)
        yield _Desk(accounts, PostgresBank(engine, owner="bench"))
    finally:
        await engine.dispose()


async def _made(desk: _Desk, number: int) -> User:
    return await desk.accounts.create_user(name=f"Bench {number}", tier=TIER)


async def _seeded(desk: _Desk, subject: str) -> User:
    user = await desk.accounts.create_user(name=subject, realm="bench", subject=subject)
    return await desk.accounts.set_tier(user.id, TIER) or user


async def _keyed(desk: _Desk, user: User) -> str:
    await desk.bank.credit(user.wallet_id, parse_usd(_CREDIT_USD), "paid", source="bench:first", funding="cash:bench")
    key, _ = await desk.accounts.create_key(name="bench", user_id=user.id)
    return key

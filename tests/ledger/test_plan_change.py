"""Who changes tiers has the new tier's allowance at once, and nobody gets one twice."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import text

from ledger.money import NANO
from ledger.period import Plan
from ledger.store_sql import PostgresBank, make_engine


async def test_an_allowance_is_replaced_by_the_new_tiers_and_not_granted_again_on_the_way_back(
    database_url: str,
) -> None:
    engine = make_engine(database_url, size=2)
    bank, wallet = PostgresBank(engine, owner="test"), uuid4()

    async def due() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE wallets SET due_at = '-infinity'"))

    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO wallets (id, due_at) VALUES (:id, '-infinity')"), {"id": wallet})
    small, large = Plan(NANO, name="small"), Plan(5 * NANO, name="large")
    assert (await bank.balance(wallet, small)).spendable == NANO
    await due()
    assert (await bank.balance(wallet, large)).spendable == 5 * NANO
    await due()
    assert (await bank.balance(wallet, small)).spendable == 0
    await due()
    assert (await bank.balance(wallet, None)).spendable == 0
    await engine.dispose()


async def test_a_replica_that_has_not_heard_of_another_plan_does_not_keep_it_away_until_the_period_ends(
    database_url: str,
) -> None:
    engine = make_engine(database_url, size=2)
    bank, wallet = PostgresBank(engine, owner="test"), uuid4()
    old, new = Plan(NANO, "year", name="old"), Plan(5 * NANO, "year", name="new")

    async def run(statement: str) -> object:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None

    await run(f"INSERT INTO wallets (id, due_at) VALUES ('{wallet}', '-infinity')")
    assert (await bank.balance(wallet, old)).spendable == NANO
    # As an account does when its tier changes; then the replica asks that still believes in the old one.
    await run("UPDATE wallets SET due_at = '-infinity'")
    assert (await bank.balance(wallet, old)).spendable == NANO
    assert await run("SELECT due_at - clock_timestamp() BETWEEN '0 s' AND '5 s' FROM wallets")
    await run("UPDATE wallets SET due_at = clock_timestamp()")
    assert (await bank.balance(wallet, new)).spendable == 5 * NANO
    assert await run("SELECT due_at - clock_timestamp() > '1 minute' FROM wallets")
    await engine.dispose()

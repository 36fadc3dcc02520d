"""The job: what fell due is written down without anybody asking, and a database that is away is tried again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from accounts.due_tiers import DueTiers
from accounts.store_sql import Accounts
from tests.accounts.conftest import Rows


async def planned(accounts: Accounts, rows: Rows, users: int) -> None:
    for number in range(users):
        user = await accounts.create_user(name=str(number))
        await accounts.set_tier(user.id, "pro", at=datetime.now(UTC) + timedelta(days=1))
    await rows("UPDATE users SET next_tier_at = now()")


async def settled(rows: Rows) -> None:
    async with asyncio.timeout(30):
        while await rows("SELECT 1 FROM users WHERE next_tier IS NOT NULL"):
            await asyncio.sleep(0.02)


async def test_the_job_settles_what_fell_due_while_nobody_ran(accounts: Accounts, rows: Rows) -> None:
    await planned(accounts, rows, 3)
    job = DueTiers(accounts)
    await job.start()
    await settled(rows)
    await job.aclose()
    assert await rows("SELECT DISTINCT tier FROM users") == [("pro",)]


async def test_more_than_a_batch_is_settled_at_once(accounts: Accounts, rows: Rows) -> None:
    await rows("""
        WITH wallet AS (
            INSERT INTO wallets (id, due_at) SELECT gen_random_uuid(), now() FROM generate_series(1, 501) RETURNING id)
        INSERT INTO users (id, wallet_id, realm, subject, tier, next_tier, next_tier_at)
        SELECT gen_random_uuid(), id, 'r', id, 'free', 'pro', now() FROM wallet
    """)
    assert await DueTiers(accounts).settle() == 501
    assert await rows("SELECT detail ->> 'users' FROM system_events ORDER BY id") == [("500",), ("1",)]


async def test_a_failure_is_not_the_end_of_the_job(accounts: Accounts, rows: Rows) -> None:
    await planned(accounts, rows, 1)
    await rows("ALTER TABLE wallets RENAME TO hidden")
    job = DueTiers(accounts, every_s=0.02)
    await job.start()
    await asyncio.sleep(0.1)
    await rows("ALTER TABLE hidden RENAME TO wallets")
    await settled(rows)
    await job.aclose()


async def test_a_job_that_never_began_can_be_ended(accounts: Accounts) -> None:
    await DueTiers(accounts).aclose()

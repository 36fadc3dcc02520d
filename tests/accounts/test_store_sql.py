"""All accounts as one: one pepper for all replicas, and a database that is away is told in our words."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from accounts.store_sql import Accounts, AccountsUnavailable, PepperMismatch


async def test_a_replica_with_another_pepper_is_told_so(engine: AsyncEngine, accounts: Accounts) -> None:
    await accounts.check_pepper()
    await accounts.check_pepper()
    with pytest.raises(PepperMismatch, match="FAREBOX_KEY_PEPPER"):
        await Accounts(engine, pepper=b"q" * 32, default_tier="free").check_pepper()


async def test_a_database_that_is_away_is_told_in_our_words() -> None:
    engine = create_async_engine("postgresql+asyncpg://u@127.0.0.1:1/d")
    with pytest.raises(AccountsUnavailable, match="did not answer"):
        await Accounts(engine, pepper=b"p" * 32, default_tier="free").user(UUID(int=0))
    await engine.dispose()

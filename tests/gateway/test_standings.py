"""Where a caller stands now, and that a planned tier is written down by its first call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from accounts.standing import NoTier
from accounts.store_sql import AccountsUnavailable
from accounts.users import User
from config.catalog import Catalog
from gateway.standings import Standings
from policies.tier import Tier

CATALOG = Catalog(tiers={name: Tier(name) for name in ("free", "pro")})


class SomeAccounts:
    """Notes whose planned tiers were written down."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.settled: list[UUID] = []
        self._failure = failure

    async def settle_due_tiers(self, *, user_id: UUID) -> int:
        self.settled.append(user_id)
        if self._failure is not None:
            raise self._failure
        return 1


def user(**more: Any) -> User:
    return User(UUID(int=1), UUID(int=2), "r", "s", "", "Ada", "user", "free", "active", "en", **more)


def standings(accounts: Any, catalog: Catalog = CATALOG) -> Standings:
    return Standings(accounts, lambda: catalog, "free")


async def test_nothing_is_written_for_who_has_nothing_planned_or_not_yet() -> None:
    accounts = SomeAccounts()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for each in (user(), user(next_tier="pro", next_tier_at=tomorrow)):
        assert (await standings(accounts).of(each)).tier.name == "free"
    assert not accounts.settled


@pytest.mark.parametrize("failure", [None, AccountsUnavailable("away")])
async def test_a_tier_that_fell_due_counts_whether_or_not_it_can_be_written_down(failure: Exception | None) -> None:
    accounts = SomeAccounts(failure)
    due = user(next_tier="pro", next_tier_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await standings(accounts).of(due)).tier.name == "pro"
    assert accounts.settled == [due.id]


async def test_without_any_tier_there_is_no_standing() -> None:
    with pytest.raises(NoTier):
        await standings(SomeAccounts(), Catalog()).of(user())

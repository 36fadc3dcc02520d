"""What every write of this room shares: all or nothing with its record, and wallets made due in the bank's order."""

from __future__ import annotations

import asyncio
from random import shuffle

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store import difference, make_due
from accounts.store_sql import Accounts, AccountsUnavailable
from tests.accounts.conftest import Rows


class Point(msgspec.Struct):
    x: int
    y: int


def test_a_difference_names_only_what_differs() -> None:
    assert difference(Point(1, 2), Point(1, 3)) == ({"y": 2}, {"y": 3})


async def test_a_write_that_cannot_be_recorded_is_not_done(accounts: Accounts, rows: Rows) -> None:
    user = await accounts.create_user(name="Ann")
    group = (await accounts.create_group(name="team")).group
    await rows("ALTER TABLE audit RENAME TO hidden")
    for write in (
        accounts.change_user(user.id, name="Bob"),
        accounts.set_tier(user.id, "pro"),
        accounts.create_key(name="k", user_id=user.id),
        accounts.change_group(group.id, tier="pro"),
        accounts.add_member(group.id, user.id),
    ):
        with pytest.raises(AccountsUnavailable):
            await write
    assert await accounts.user(user.id) == user
    kept = await accounts.find_group(group.id)
    assert await accounts.list_keys() == [] and kept is not None and (kept.version, kept.members) == (1, 0)


async def test_wallets_made_due_by_many_at_once_in_any_order_do_not_wait_for_each_other_in_a_ring(
    accounts: Accounts, engine: AsyncEngine, rows: Rows
) -> None:
    wallets = [(await accounts.create_user(name=str(number))).wallet_id for number in range(20)]
    await rows("UPDATE wallets SET due_at = 'infinity'")

    async def due() -> None:
        mine = list(wallets)
        shuffle(mine)
        async with engine.begin() as connection:
            await make_due(connection, mine)

    async with asyncio.timeout(30):
        await asyncio.gather(*(due() for _ in range(12)))
    assert await rows("SELECT DISTINCT due_at = '-infinity' FROM wallets") == [(True,)]


async def test_no_wallets_are_nobodys_business(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await make_due(connection, [])

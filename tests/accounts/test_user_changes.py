"""A change of a user is known by an instant that only ever grows, and recorded without what nobody set."""

from __future__ import annotations

import asyncio

from accounts.store_sql import Accounts
from accounts.user_changes import recorded
from tests.accounts.conftest import Rows


async def test_every_change_is_later_than_the_one_before_even_where_the_clock_stood(
    accounts: Accounts, rows: Rows
) -> None:
    user = await accounts.create_user(name="0")
    await rows("UPDATE users SET updated_at = now() + interval '1 hour'")
    instants = []
    for number in range(1, 4):
        changed = await accounts.change_user(user.id, name=str(number))
        assert changed is not None and changed.updated_at is not None
        instants.append(changed.updated_at)
    assert instants == sorted(set(instants))


async def test_changes_of_one_user_at_once_come_one_after_the_other(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    names = [str(number) for number in range(16)]
    changed = await asyncio.gather(*(accounts.change_user(user.id, name=name) for name in names))
    assert len({each.updated_at for each in changed if each is not None}) == 16


async def test_a_record_leaves_out_what_the_database_keeps_for_itself(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    change = recorded("user.create", None, user)
    assert change.before is None and change.after is not None
    assert {"id", "created_at", "updated_at"}.isdisjoint(change.after) and change.after["name"] == "a"

"""Memberships: told, bounded, and never of somebody who is not there."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from accounts.members_sql import GROUPS_MAX, UnknownUsers
from accounts.store_sql import Accounts, Conflict
from ledger.audit import Actor
from policies.group import Group
from tests.accounts.conftest import Recorded, Rows

NOBODY = UUID(int=0)
ANNE = Actor("anne", "admin")


@pytest.fixture
async def group(accounts: Accounts) -> Group:
    return (await accounts.create_group(name="team")).group


async def test_a_user_joins_and_leaves_once_and_both_are_recorded(
    accounts: Accounts, group: Group, recorded: Recorded
) -> None:
    user = await accounts.create_user(name="a")
    assert await accounts.add_member(group.id, user.id, by=ANNE) and not await accounts.add_member(group.id, user.id)
    assert await accounts.remove_member(group.id, user.id, by=ANNE)
    assert not await accounts.remove_member(group.id, user.id)
    assert [row[:3] for row in (await recorded())[-2:]] == [
        ("group.add_member", str(group.id), "anne"),
        ("group.remove_member", str(group.id), "anne"),
    ]


async def test_who_joins_or_leaves_may_have_another_allowance(accounts: Accounts, group: Group, rows: Rows) -> None:
    user = await accounts.create_user(name="a")
    for change in (accounts.add_member, accounts.remove_member):
        await rows("UPDATE wallets SET due_at = 'infinity'")
        await change(group.id, user.id)
        assert await rows("SELECT id FROM wallets WHERE due_at = '-infinity'") == [(user.wallet_id,)]


async def test_nobody_joins_nothing(accounts: Accounts, group: Group) -> None:
    user = await accounts.create_user(name="a")
    with pytest.raises(LookupError, match="no user"):
        await accounts.add_member(group.id, NOBODY)
    with pytest.raises(LookupError, match="no group"):
        await accounts.add_member(NOBODY, user.id)
    await accounts.retire_group(group.id)
    with pytest.raises(LookupError, match="no group"):
        await accounts.add_member(group.id, user.id)
    assert not await accounts.remove_member(group.id, NOBODY)


async def test_a_member_leaves_a_retired_group(accounts: Accounts, group: Group) -> None:
    user = await accounts.create_user(name="a")
    await accounts.add_member(group.id, user.id)
    await accounts.retire_group(group.id)
    assert await accounts.remove_member(group.id, user.id)


async def test_a_deleted_user_joins_no_group(accounts: Accounts, group: Group) -> None:
    user = await accounts.create_user(name="a")
    await accounts.set_status(user.id, "deleted")
    with pytest.raises(Conflict, match="deleted"):
        await accounts.add_member(group.id, user.id)


async def test_a_user_belongs_to_so_many_groups_and_no_more_however_they_come(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    groups = [(await accounts.create_group(name=str(number))).group.id for number in range(GROUPS_MAX + 8)]
    outcomes = await asyncio.gather(*(accounts.add_member(each, user.id) for each in groups), return_exceptions=True)
    assert sum(outcome is True for outcome in outcomes) == GROUPS_MAX
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 8
    found = await accounts.user(user.id)
    assert found is not None and len(found.groups) == GROUPS_MAX


async def test_many_join_at_once_and_are_told_apart_from_those_who_belonged_before(
    accounts: Accounts, group: Group, recorded: Recorded
) -> None:
    users = sorted([(await accounts.create_user(name=str(number))).id for number in range(4)])
    assert sorted(await accounts.add_members(group.id, users[:2], by=ANNE)) == users[:2]
    assert sorted(await accounts.add_members(group.id, [*users, users[3]], by=ANNE)) == users[2:]
    assert await accounts.add_members(group.id, users, by=ANNE) == []
    joined = [row[4]["user"] for row in await recorded() if row[0] == "group.add_member"]
    assert sorted(joined) == [str(user) for user in users]


async def test_all_of_them_join_or_none(accounts: Accounts, group: Group) -> None:
    user, gone = await accounts.create_user(name="a"), await accounts.create_user(name="b")
    await accounts.set_status(gone.id, "deleted")
    with pytest.raises(UnknownUsers) as caught:
        await accounts.add_members(group.id, [user.id, NOBODY])
    assert caught.value.ids == [NOBODY]
    with pytest.raises(Conflict, match="deleted"):
        await accounts.add_members(group.id, [user.id, gone.id])
    assert await accounts.list_members(group.id) == []


async def test_crowds_that_overlap_join_at_once_in_whatever_order_they_are_named(
    accounts: Accounts, group: Group
) -> None:
    users = [(await accounts.create_user(name=str(number))).id for number in range(12)]
    crowds = [users[start:] + users[:start] for start in range(8)]
    added = await asyncio.gather(*(accounts.add_members(group.id, crowd) for crowd in crowds))
    assert sum(map(len, added)) == 12


async def test_a_user_added_by_many_at_once_is_one_member(accounts: Accounts, group: Group) -> None:
    user = await accounts.create_user(name="a")
    added = await asyncio.gather(*(accounts.add_member(group.id, user.id) for _ in range(16)))
    assert sum(added) == 1


async def test_members_are_listed_page_by_page_each_with_its_groups(accounts: Accounts, group: Group) -> None:
    users = [await accounts.create_user(name=str(number)) for number in range(5)]
    for user in users:
        await accounts.add_member(group.id, user.id)
    seen, after = list[UUID](), None
    while page := await accounts.list_members(group.id, after=after, limit=2):
        assert all(member.user.groups == (group.id,) and member.added_at for member in page)
        seen += [member.user.id for member in page]
        after = seen[-1]
    assert seen == sorted(user.id for user in users)
    kept = await accounts.find_group(group.id)
    assert kept is not None and kept.members == 5
    assert await accounts.list_members(NOBODY) == []

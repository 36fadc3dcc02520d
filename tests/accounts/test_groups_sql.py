"""Groups in a real database: one of each name, changed by one admin at a time, and their members hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store_sql import Accounts, Conflict, StaleWrite
from config.catalog_sql import load
from ledger.audit import Actor
from ledger.budget import Budget
from policies.tier import Allowance
from tests.accounts.conftest import Recorded, Rows

NOBODY = UUID(int=0)
ANNE = Actor("anne", "admin")
FULL: dict[str, Any] = {
    "tier": "pro",
    "priority": 5,
    "allowance": Allowance(5, zone="Asia/Kolkata"),
    "shared": True,
    "member_cap": Budget(3, "month"),
}


async def test_a_group_is_made_with_an_empty_wallet_that_is_due(
    accounts: Accounts, rows: Rows, recorded: Recorded
) -> None:
    kept = await accounts.create_group(name="team", by=ANNE, **FULL)
    assert (kept.version, kept.members, kept.retired_at) == (1, 0, None)
    assert {name: getattr(kept.group, name) for name in FULL} == FULL
    assert await rows("SELECT id, spendable, due_at = '-infinity' FROM wallets") == [(kept.group.wallet_id, 0, True)]
    action, target, actor, before, after = (await recorded())[-1]
    assert (action, target, actor, before) == ("group.create", str(kept.group.id), "anne", None)
    assert (after["name"], after["tier"], after["member_cap"]) == ("team", "pro", {"amount": 3, "every": "month"})


async def test_a_group_that_is_made_counts_the_members_of_no_other(accounts: Accounts) -> None:
    other = (await accounts.create_group(name="other")).group
    await accounts.add_member(other.id, (await accounts.create_user(name="member")).id)
    assert (await accounts.create_group(name="made")).members == 0


async def test_the_catalogue_has_the_group_as_it_was_made(accounts: Accounts, engine: AsyncEngine) -> None:
    kept = await accounts.create_group(name="team", **FULL)
    assert (await load(engine)).groups == {kept.group.id: kept.group}


async def test_two_groups_of_one_name_are_refused(accounts: Accounts, rows: Rows) -> None:
    first = await accounts.create_group(name="team")
    second = await accounts.create_group(name="other")
    with pytest.raises(Conflict, match="a group team already"):
        await accounts.create_group(name="team")
    with pytest.raises(Conflict, match="a group team already"):
        await accounts.change_group(second.group.id, name="team")
    assert await rows("SELECT count(*) FROM wallets") == [(2,)]
    await accounts.retire_group(first.group.id)
    assert (await accounts.create_group(name="team")).group.id != first.group.id


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": "g", "wallet_id": NOBODY}, "no wallet_id to set"),
        ({"name": "g", "colour": "red"}, "no colour to set"),
        ({"name": "g", "allowance": Allowance(1, "tokens")}, "not tokens"),
    ],
)
async def test_what_makes_no_group_is_refused(accounts: Accounts, told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await accounts.create_group(**told)
    kept = await accounts.create_group(name="g")
    with pytest.raises(ValueError, match=why):
        await accounts.change_group(kept.group.id, **told)


async def test_a_group_is_changed_in_what_is_told_and_recorded_so(accounts: Accounts, recorded: Recorded) -> None:
    kept = await accounts.create_group(name="team", **FULL)
    changed = await accounts.change_group(kept.group.id, expected_version=1, name="crew", tier=None, by=ANNE)
    assert changed is not None and (changed.version, changed.group.name, changed.group.tier) == (2, "crew", None)
    assert (changed.group.shared, changed.group.wallet_id) == (True, kept.group.wallet_id)
    assert (await recorded())[-1] == (
        "group.change",
        str(kept.group.id),
        "anne",
        {"name": "team", "tier": "pro"},
        {"name": "crew", "tier": None},
    )


async def test_what_is_as_it_was_keeps_its_version_and_leaves_no_record(accounts: Accounts, recorded: Recorded) -> None:
    kept = await accounts.create_group(name="team", **FULL)
    before = await recorded()
    assert await accounts.change_group(kept.group.id, **FULL) == kept
    assert await recorded() == before


async def test_of_admins_who_saw_the_same_version_one_is_counted(accounts: Accounts) -> None:
    kept = await accounts.create_group(name="team")
    writes = (accounts.change_group(kept.group.id, expected_version=1, priority=priority) for priority in range(1, 9))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["KeptGroup", *["StaleWrite"] * 7]
    with pytest.raises(StaleWrite, match="at version 2, not 1"):
        await accounts.retire_group(kept.group.id, expected_version=1)


async def test_a_change_makes_the_wallets_of_group_and_members_due_and_nobody_elses(
    accounts: Accounts, rows: Rows
) -> None:
    kept = await accounts.create_group(name="team")
    member, _ = [await accounts.create_user(name=name) for name in "ab"]
    await accounts.add_member(kept.group.id, member.id)
    changes: list[Callable[[], Awaitable[object]]] = [
        partial(accounts.change_group, kept.group.id, tier="pro"),
        partial(accounts.retire_group, kept.group.id),
    ]
    for change in changes:
        await rows("UPDATE wallets SET due_at = 'infinity'")
        await change()
        due = await rows("SELECT id FROM wallets WHERE due_at = '-infinity'")
        assert {row[0] for row in due} == {member.wallet_id, kept.group.wallet_id}


async def test_a_retired_group_gives_nothing_any_more_and_stays_on_record(
    accounts: Accounts, engine: AsyncEngine, recorded: Recorded
) -> None:
    kept = await accounts.create_group(name="team", tier="pro")
    user = await accounts.create_user(name="a")
    await accounts.add_member(kept.group.id, user.id)
    retired = await accounts.retire_group(kept.group.id, expected_version=1, by=ANNE)
    assert retired is not None and retired.retired_at is not None and (retired.version, retired.members) == (2, 1)
    assert (await load(engine)).groups == {}
    assert await accounts.find_group(kept.group.id) == retired
    assert (await recorded())[-1][:3] == ("group.retire", str(kept.group.id), "anne")
    assert await accounts.retire_group(kept.group.id) is None
    assert await accounts.change_group(kept.group.id, tier="vip") is None


async def test_no_group_can_be_changed_or_found_where_there_is_none(accounts: Accounts) -> None:
    assert await accounts.change_group(NOBODY, tier="pro") is None
    assert await accounts.retire_group(NOBODY) is None
    assert await accounts.find_group(NOBODY) is None


async def test_groups_are_listed_by_name_page_by_page(accounts: Accounts) -> None:
    for name in ("b", "A%", "c", "ab"):
        await accounts.create_group(name=name)
    await accounts.retire_group((await accounts.list_groups(search="c"))[0].group.id)

    async def names(**told: Any) -> list[str]:
        return [kept.group.name for kept in await accounts.list_groups(**told)]

    everybody = await names()
    assert sorted(everybody) == ["A%", "ab", "b"]
    assert set(await names(retired=True)) - set(everybody) == {"c"}
    assert set(await names(search="a")) == {"A%", "ab"} and await names(search="%") == ["A%"]
    paged, after = list[str](), None
    while page := await accounts.list_groups(after=after, limit=2):
        paged += [kept.group.name for kept in page]
        after = (page[-1].group.name, page[-1].group.id)
    assert paged == everybody

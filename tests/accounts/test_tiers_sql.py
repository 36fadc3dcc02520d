"""Tiers at once, planned, written down when due, and given back to the groups to decide."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from accounts.edits_sql import TierOrder
from accounts.store_sql import Accounts
from ledger.audit import Actor
from ledger.wallet import token_wallet_id
from tests.accounts.conftest import Recorded, Rows

NOBODY = UUID(int=0)
ANNE = Actor("anne", "admin")
NOT_DUE = "UPDATE wallets SET due_at = 'infinity'"
DUE = "SELECT due_at = '-infinity' FROM wallets ORDER BY id"


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(days=3)


async def test_a_tier_set_at_once_is_pinned_begins_now_and_makes_the_wallets_due(
    accounts: Accounts, rows: Rows, recorded: Recorded
) -> None:
    user = await accounts.create_user(name="a")
    tokens = token_wallet_id(user.wallet_id)
    await rows(f"INSERT INTO wallets (id, currency, due_at) VALUES ('{tokens}', 'TOK', now())")
    await rows(NOT_DUE)
    changed = await accounts.set_tier(user.id, "pro", by=ANNE)
    assert changed is not None and (changed.tier, changed.tier_pinned) == ("pro", True)
    assert changed.tier_since > user.tier_since
    assert await rows(DUE) == [(True,), (True,)]
    action, target, actor, before, after = (await recorded())[-1]
    assert (action, target, actor) == ("user.tier", str(user.id), "anne")
    assert (before["tier"], after["tier"], after["tier_pinned"]) == ("free", "pro", True)


async def test_the_tier_one_has_is_pinned_and_does_not_begin_again(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    changed = await accounts.set_tier(user.id, "free")
    assert changed is not None and changed.tier_pinned and changed.tier_since == user.tier_since


async def test_a_planned_tier_waits_and_the_wallet_is_due_at_its_instant(accounts: Accounts, rows: Rows) -> None:
    user, at = await accounts.create_user(name="a"), soon()
    await rows(NOT_DUE)
    planned = await accounts.set_tier(user.id, "pro", at=at)
    assert planned is not None and (planned.tier, planned.tier_pinned) == ("free", False)
    assert (planned.next_tier, planned.next_tier_at) == ("pro", at)
    assert await rows("SELECT due_at FROM wallets") == [(at,)]


async def test_a_plan_does_not_put_off_what_is_due_sooner(accounts: Accounts, rows: Rows) -> None:
    user = await accounts.create_user(name="a")
    await accounts.set_tier(user.id, "pro", at=soon())
    assert await rows(DUE) == [(True,)]


async def test_an_instant_that_has_passed_is_now(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    changed = await accounts.set_tier(user.id, "pro", at=datetime.now(UTC) - timedelta(seconds=1))
    assert changed is not None and (changed.tier, changed.next_tier) == ("pro", None)


async def test_what_is_set_at_once_drops_what_was_planned(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    await accounts.set_tier(user.id, "pro", at=soon())
    changed = await accounts.set_tier(user.id, "basic")
    assert changed is not None and (changed.tier, changed.next_tier, changed.next_tier_at) == ("basic", None, None)


async def test_an_unpinned_tier_leaves_the_decision_to_the_groups(accounts: Accounts, rows: Rows) -> None:
    user = await accounts.create_user(name="a", tier="pro")
    await accounts.set_tier(user.id, "vip", at=soon())
    await rows(NOT_DUE)
    changed = await accounts.edit_user(user.id, {}, tier=TierOrder(None))
    assert changed is not None and (changed.tier, changed.tier_pinned, changed.next_tier) == ("pro", False, None)
    assert changed.tier_since == user.tier_since
    assert await rows(DUE) == [(True,)]


async def test_nobodys_tier_cannot_be_changed(accounts: Accounts) -> None:
    assert await accounts.set_tier(NOBODY, "pro") is None
    assert await accounts.set_tier(NOBODY, "pro", at=soon()) is None
    assert await accounts.edit_user(NOBODY, {}, tier=TierOrder(None)) is None


async def test_what_is_due_is_written_down_with_the_instant_it_was_planned_for(
    accounts: Accounts, rows: Rows, recorded: Recorded
) -> None:
    due, later = await accounts.create_user(name="a"), await accounts.create_user(name="b")
    for user in (due, later):
        await accounts.set_tier(user.id, "pro", at=soon())
    await rows(f"UPDATE users SET next_tier_at = '2026-02-28 23:00Z' WHERE id = '{due.id}'")
    await rows(NOT_DUE)
    assert await accounts.settle_due_tiers() == 1
    settled, waiting = await accounts.user(due.id), await accounts.user(later.id)
    assert settled is not None and waiting is not None and waiting.next_tier == "pro"
    assert (settled.tier, settled.tier_pinned, settled.next_tier, settled.next_tier_at) == ("pro", True, None, None)
    assert settled.tier_since == datetime(2026, 2, 28, 23, tzinfo=UTC)
    assert await rows("SELECT id FROM wallets WHERE due_at = '-infinity'") == [(due.wallet_id,)]
    assert await rows("SELECT level, event, detail FROM system_events") == [("info", "tiers.changed", {"users": 1})]
    assert (await recorded())[-1] == ("user.tier", str(due.id), "system", {"tier": "free"}, {"tier": "pro"})


async def test_one_users_planned_tier_is_written_down_alone_and_once(
    accounts: Accounts, rows: Rows, recorded: Recorded
) -> None:
    calling, other = await accounts.create_user(name="a"), await accounts.create_user(name="b")
    for user in (calling, other):
        await accounts.set_tier(user.id, "pro", at=soon())
    await rows("UPDATE users SET next_tier_at = now()")
    settled = await asyncio.gather(*(accounts.settle_due_tiers(user_id=calling.id) for _ in range(5)))
    assert sorted(settled) == [0, 0, 0, 0, 1]
    assert [(await accounts.user(user.id)).tier for user in (calling, other)] == ["pro", "free"]  # type: ignore[union-attr]
    assert (await recorded())[-1] == ("user.tier", str(calling.id), "system", {"tier": "free"}, {"tier": "pro"})
    assert await rows("SELECT count(*) FROM system_events") == [(0,)]  # the audit says it


async def test_nothing_due_leaves_no_trace(accounts: Accounts, rows: Rows) -> None:
    user = await accounts.create_user(name="a")
    await accounts.set_tier(user.id, "pro", at=soon())
    assert await accounts.settle_due_tiers() == 0
    assert await rows("SELECT count(*) FROM system_events") == [(0,)]


async def test_a_planned_tier_one_has_already_does_not_begin_again(accounts: Accounts, rows: Rows) -> None:
    user = await accounts.create_user(name="a", tier="pro")
    await accounts.set_tier(user.id, "pro", at=soon())
    await rows("UPDATE users SET next_tier_at = now()")
    await accounts.settle_due_tiers()
    settled = await accounts.user(user.id)
    assert settled is not None and settled.next_tier is None and settled.tier_since == user.tier_since


async def test_replicas_that_settle_together_settle_everything_once(
    accounts: Accounts, rows: Rows, recorded: Recorded
) -> None:
    for number in range(20):
        user = await accounts.create_user(name=str(number))
        await accounts.set_tier(user.id, "pro", at=soon())
    await rows("UPDATE users SET next_tier_at = now()")
    settled = await asyncio.gather(*(accounts.settle_due_tiers(most=3) for _ in range(7)))
    while some := await accounts.settle_due_tiers(most=3):
        settled.append(some)
    assert sum(settled) == 20
    assert len({row[1] for row in await recorded() if row[2] == "system" and row[3] == {"tier": "free"}}) == 20


async def test_who_has_a_tier_or_is_to_get_it_is_counted(accounts: Accounts) -> None:
    users = [await accounts.create_user(name=name, tier="gold") for name in "abc"]
    await accounts.set_status(users[0].id, "deleted")
    await accounts.set_tier(users[1].id, "silver", at=soon())
    assert (await accounts.count_on_tier("gold"), await accounts.count_on_tier("silver")) == (2, 1)
    assert await accounts.count_on_tier("bronze") == 0

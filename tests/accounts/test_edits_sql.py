"""Several changes at once: all of them or none, each on record as what it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from accounts.edits_sql import TierOrder
from accounts.store_sql import Accounts, Conflict, StaleWrite
from ledger.audit import Actor
from tests.accounts.conftest import Recorded, Rows

NOBODY = UUID(int=0)
ANNE = Actor("anne", "admin")


async def test_each_deed_is_recorded_as_what_it_is_and_what_is_as_it_was_is_not(
    accounts: Accounts, recorded: Recorded
) -> None:
    user = await accounts.create_user(name="a", language="de")
    edited = await accounts.edit_user(
        user.id, {"name": "b", "language": "de"}, status="suspended", tier=TierOrder("pro"), by=ANNE
    )
    assert edited is not None and (edited.name, edited.status, edited.tier) == ("b", "suspended", "pro")
    rows = (await recorded())[1:]
    assert [(row[0], row[2]) for row in rows] == [
        ("user.change", "anne"),
        ("user.status", "anne"),
        ("user.tier", "anne"),
    ]
    assert rows[0][3:] == ({"name": "a"}, {"name": "b"})
    assert await accounts.edit_user(user.id, {"name": "b"}, status="suspended", by=ANNE) == edited
    assert len(await recorded()) == 4


async def test_what_cannot_be_all_is_none_of_it(accounts: Accounts, recorded: Recorded) -> None:
    source, target = await accounts.create_user(name="a"), await accounts.create_user(name="b")
    merged = await accounts.merge_users(source.id, target.id)
    assert merged is not None
    before = await recorded()
    with pytest.raises(Conflict, match="goes on there"):
        await accounts.edit_user(source.id, {"name": "c"}, status="active")
    with pytest.raises(StaleWrite):
        await accounts.edit_user(
            target.id, {"name": "c"}, expected=datetime(2020, 1, 1, tzinfo=UTC), tier=TierOrder("pro")
        )
    found = await accounts.user(source.id)
    assert found is not None and found.name == "a" and await recorded() == before


async def test_a_tier_makes_the_wallet_due_and_a_name_does_not(accounts: Accounts, rows: Rows) -> None:
    user = await accounts.create_user(name="a")
    await rows("UPDATE wallets SET due_at = 'infinity'")
    await accounts.edit_user(user.id, {"name": "b"})
    assert await rows("SELECT 1 FROM wallets WHERE due_at < 'infinity'") == []
    at = datetime.now(UTC) + timedelta(days=3)
    planned = await accounts.edit_user(user.id, {}, tier=TierOrder("pro", at))
    assert planned is not None and (planned.next_tier, planned.next_tier_at) == ("pro", at)
    assert await rows("SELECT due_at FROM wallets") == [(at,)]
    freed = await accounts.edit_user(user.id, {}, tier=TierOrder(None))
    assert freed is not None and (freed.tier_pinned, freed.next_tier) == (False, None)
    assert await rows("SELECT due_at = '-infinity' FROM wallets") == [(True,)]


async def test_nobody_is_edited_and_nothing_but_an_admins_to_set(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    assert await accounts.edit_user(NOBODY, {"name": "b"}) is None
    for field in ("wallet_id", "status", "tier"):
        with pytest.raises(ValueError, match=field):
            await accounts.edit_user(user.id, {field: "x"})

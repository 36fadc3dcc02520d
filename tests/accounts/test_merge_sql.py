"""Two identities become one account: keys and memberships move, the old name leads to the new one for ever."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from accounts.store_sql import Accounts, Conflict
from accounts.users import Sighting, User
from ledger.audit import Actor
from tests.accounts.conftest import Recorded, Rows

ANNE = Actor("anne", "admin")


async def pair(accounts: Accounts) -> tuple[User, User]:
    return (
        await accounts.sight(Sighting("old", "s", "a@old", "Ann")),
        await accounts.sight(Sighting("new", "s", "a@new", "Anna")),
    )


async def kept(accounts: Accounts, user_id: UUID) -> User:
    user = await accounts.user(user_id)
    assert user is not None
    return user


async def test_the_source_is_deleted_and_leads_to_the_target(accounts: Accounts) -> None:
    source, target = await pair(accounts)
    await accounts.set_tier(source.id, "pro", at=datetime.now(UTC) + timedelta(days=1))
    merged = await accounts.merge_users(source.id, target.id)
    assert merged is not None and (merged.id, merged.status, merged.email) == (target.id, "active", "a@new")
    gone = await kept(accounts, source.id)
    assert (gone.status, gone.merged_into, gone.next_tier) == ("deleted", target.id, None)


async def test_a_sighting_of_the_source_is_the_target_and_changes_nothing_there(accounts: Accounts, rows: Rows) -> None:
    source, target = await pair(accounts)
    await accounts.merge_users(source.id, target.id)
    before = await rows("SELECT id, xmin FROM users ORDER BY id")
    seen = await accounts.sight(Sighting("old", "s", "a@elsewhere", "Annabel"))
    assert (seen.id, seen.email, seen.name) == (target.id, "a@new", "Anna")
    assert await rows("SELECT id, xmin FROM users ORDER BY id") == before


async def test_keys_and_memberships_move_and_one_both_had_stays_one(accounts: Accounts) -> None:
    source, target = await pair(accounts)
    _, key = await accounts.create_key(name="k", user_id=source.id)
    both, mine = [(await accounts.create_group(name=name)).group.id for name in ("both", "mine")]
    for group, user in ((both, source), (both, target), (mine, source)):
        await accounts.add_member(group, user.id)
    merged = await accounts.merge_users(source.id, target.id)
    assert merged is not None and set(merged.groups) == {both, mine}
    assert (await kept(accounts, source.id)).groups == ()
    assert [each.id for each in await accounts.list_keys(target.id)] == [key.id]


async def test_the_targets_wallet_is_due_for_what_the_groups_give(accounts: Accounts, rows: Rows) -> None:
    source, target = await pair(accounts)
    await rows("UPDATE wallets SET due_at = 'infinity'")
    await accounts.merge_users(source.id, target.id)
    assert await rows("SELECT id FROM wallets WHERE due_at = '-infinity'") == [(target.wallet_id,)]


async def test_a_merge_is_recorded_on_both_sides(accounts: Accounts, recorded: Recorded) -> None:
    source, target = await pair(accounts)
    await accounts.merge_users(source.id, target.id, by=ANNE)
    (out, into) = await recorded()
    assert out[:3] == ("user.merge", str(source.id), "anne") and out[4]["merged_into"] == str(target.id)
    assert into[:3] == ("user.merge", str(target.id), "anne")


async def test_a_chain_of_merges_leads_straight_to_its_end(accounts: Accounts) -> None:
    first, second = await pair(accounts)
    third = await accounts.sight(Sighting("third", "s"))
    await accounts.merge_users(first.id, second.id)
    await accounts.merge_users(second.id, third.id)
    assert (await kept(accounts, first.id)).merged_into == third.id
    for realm in ("old", "new", "third"):
        assert (await accounts.sight(Sighting(realm, "s"))).id == third.id


async def test_the_same_pair_again_changes_nothing(accounts: Accounts, recorded: Recorded) -> None:
    source, target = await pair(accounts)
    once = await accounts.merge_users(source.id, target.id)
    before = await recorded()
    assert await accounts.merge_users(source.id, target.id) == once
    assert await recorded() == before


async def test_whatever_the_merged_one_was_known_by_finds_the_account_that_goes_on(accounts: Accounts) -> None:
    source = await accounts.create_user(name="Ann", email="ann@example.org", subject="old-ann")
    target = await accounts.create_user(name="Ann", email="ann@example.org", subject="new-ann")
    assert await accounts.find_user("ann@example.org") is None
    await accounts.merge_users(source.id, target.id)
    for who in ("ann@example.org", "old-ann", "new-ann", str(source.id)):
        found = await accounts.find_user(who)
        assert found is not None and found.id == target.id


async def test_what_cannot_be_merged_is_refused_with_the_reason(accounts: Accounts) -> None:
    source, target = await pair(accounts)
    other = await accounts.sight(Sighting("third", "s"))
    with pytest.raises(Conflict, match="into itself"):
        await accounts.merge_users(source.id, source.id)
    await accounts.merge_users(source.id, target.id)
    with pytest.raises(Conflict, match=f"already merged into {target.id}"):
        await accounts.merge_users(source.id, other.id)
    with pytest.raises(Conflict, match="into a deleted one"):
        await accounts.merge_users(other.id, source.id)
    with pytest.raises(Conflict, match="into a deleted one"):
        await accounts.merge_users(target.id, source.id)
    assert await accounts.merge_users(other.id, UUID(int=0)) is None
    assert await accounts.merge_users(UUID(int=0), other.id) is None


async def test_a_deleted_account_can_be_merged_away(accounts: Accounts) -> None:
    source, target = await pair(accounts)
    await accounts.set_status(source.id, "deleted")
    await accounts.merge_users(source.id, target.id)
    assert (await accounts.sight(Sighting("old", "s"))).id == target.id


async def test_of_merges_in_both_directions_at_once_one_holds(accounts: Accounts) -> None:
    one, two = await pair(accounts)
    outcomes = await asyncio.gather(
        accounts.merge_users(one.id, two.id), accounts.merge_users(two.id, one.id), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "User"]
    assert len({(await accounts.sight(Sighting(realm, "s"))).id for realm in ("old", "new")}) == 1


async def test_many_merges_and_changes_at_once_neither_block_nor_lose_anybody(accounts: Accounts) -> None:
    people = [await accounts.sight(Sighting("r", str(number))) for number in range(12)]
    for user in people:
        await accounts.create_key(name="k", user_id=user.id)
    last = people[-1]
    work = [accounts.merge_users(user.id, last.id) for user in people[:-1]]
    work += [accounts.merge_users(one.id, two.id) for one, two in pairwise(people[:-1])]
    noting = [accounts.note_used({key.id: 1.0 for key in await accounts.list_keys()}) for _ in range(5)]
    outcomes = await asyncio.gather(*work, *noting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {User, Conflict, type(None)}
    assert {(await accounts.sight(Sighting("r", str(number)))).id for number in range(12)} == {last.id}
    assert len(await accounts.list_keys(last.id)) == 12

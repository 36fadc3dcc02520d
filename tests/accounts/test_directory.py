"""Who is who, from memory: asked once, forgotten in time, and not to be flooded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.directory import Directory
from accounts.edits_sql import TierOrder
from accounts.keys import Key, mint
from accounts.store_sql import Accounts
from accounts.users import Sighting, User
from config.watch import Watcher
from policies.key_limits import KeyLimits


@pytest.fixture
async def directory(accounts: Accounts) -> AsyncIterator[Directory]:
    directory = Directory(accounts)
    await directory.start()
    yield directory
    await directory.aclose()


@pytest.fixture
async def watched(database_url: str, directory: Directory) -> AsyncIterator[Directory]:
    watcher = Watcher(database_url, [directory])
    await watcher.start()
    yield directory
    await watcher.aclose()


@pytest.fixture
def queries(engine: AsyncEngine) -> list[str]:
    """Every SELECT the engine is asked from here on."""
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT api_keys") or statement.startswith("SELECT users"):
            seen.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return seen


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """The promise is two seconds; a busy machine is given more."""
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


async def user_with_key(accounts: Accounts) -> tuple[User, str, UUID]:
    user = await accounts.create_user(name="a")
    full, key = await accounts.create_key(name="k", user_id=user.id)
    return user, full, key.id


async def test_a_key_and_its_user_are_asked_for_once(
    accounts: Accounts, directory: Directory, queries: list[str]
) -> None:
    user, full, key_id = await user_with_key(accounts)
    queries.clear()
    for _ in range(3):
        key = await directory.key(full)
        assert key is not None and key.id == key_id
        assert await directory.user(user.id) == user
    assert len(queries) == 2


async def test_a_key_revoked_elsewhere_is_revoked_here(accounts: Accounts, watched: Directory) -> None:
    _, full, key_id = await user_with_key(accounts)
    await watched.key(full)
    await accounts.revoke_key(key_id)

    async def revoked() -> bool:
        key = await watched.key(full)
        return key is not None and key.revoked_at is not None

    await eventually(revoked)


async def test_a_tier_changed_elsewhere_is_changed_here(accounts: Accounts, watched: Directory) -> None:
    user = await watched.sighted(Sighting("r", "s"))
    await accounts.set_tier(user.id, "pro")

    async def promoted() -> bool:
        return (await watched.sighted(Sighting("r", "s"))).tier == "pro"

    await eventually(promoted)


@pytest.fixture
async def other(database_url: str, accounts: Accounts) -> AsyncIterator[Directory]:
    """Another replica's directory."""
    directory = Directory(accounts)
    watcher = Watcher(database_url, [directory])
    await watcher.start()
    yield directory
    await watcher.aclose()
    await directory.aclose()


async def both_see(one: Directory, two: Directory, user_id: UUID, is_so: Callable[[User], bool]) -> None:
    """Until both replicas, which have met the user before, see it so."""

    async def seen() -> bool:
        found = [await directory.user(user_id) for directory in (one, two)]
        return all(user is not None and is_so(user) for user in found)

    await eventually(seen)


async def test_two_replicas_hear_of_tiers_memberships_and_ended_sessions(
    accounts: Accounts, watched: Directory, other: Directory
) -> None:
    user = await accounts.create_user(name="a")
    group = (await accounts.create_group(name="team")).group.id
    await both_see(watched, other, user.id, lambda met: met.groups == ())
    await accounts.add_member(group, user.id)
    await both_see(watched, other, user.id, lambda met: met.groups == (group,))
    await accounts.remove_member(group, user.id)
    await both_see(watched, other, user.id, lambda met: met.groups == ())
    await accounts.set_tier(user.id, "pro", at=datetime.now(UTC) + timedelta(days=1))
    await both_see(watched, other, user.id, lambda met: met.next_tier == "pro")
    await accounts.set_tier(user.id, "vip")
    await both_see(watched, other, user.id, lambda met: met.tier == "vip" and met.tier_pinned)
    await accounts.edit_user(user.id, {}, tier=TierOrder(None))
    await both_see(watched, other, user.id, lambda met: not met.tier_pinned)
    await accounts.revoke_sessions(user.id)
    await both_see(watched, other, user.id, lambda met: met.sessions_from is not None)


async def test_two_replicas_hear_of_a_keys_limits_and_of_the_end_of_a_rotated_one(
    accounts: Accounts, watched: Directory, other: Directory
) -> None:
    _, full, key_id = await user_with_key(accounts)

    async def both(is_so: Callable[[Key], bool]) -> None:
        async def seen() -> bool:
            found = [await directory.key(full) for directory in (watched, other)]
            return all(key is not None and is_so(key) for key in found)

        await eventually(seen)

    await both(lambda key: key.limits.models == ("*",))
    await accounts.change_key(key_id, limits=KeyLimits(("small*",)), scopes=["inference"])
    await both(lambda key: key.limits.models == ("small*",) and key.scopes == ("inference",))
    await accounts.rotate_key(key_id, timedelta(hours=1))
    await both(lambda key: key.expires_at is not None)


async def test_two_replicas_lead_a_merged_identity_and_its_keys_to_the_target(
    accounts: Accounts, watched: Directory, other: Directory
) -> None:
    source = await watched.sighted(Sighting("old", "s", "a@old"))
    target = await other.sighted(Sighting("new", "s", "a@new"))
    full, _ = await accounts.create_key(name="k", user_id=source.id)
    for directory in (watched, other):
        await directory.sighted(Sighting("old", "s"))
        await directory.key(full)
    await accounts.merge_users(source.id, target.id)

    async def led() -> bool:
        found = set()
        for directory in (watched, other):
            key = await directory.key(full)
            assert key is not None and key.user_id is not None
            by_key, by_id = await directory.user(key.user_id), await directory.user(source.id)
            assert by_key is not None and by_id is not None
            found |= {by_key.id, by_id.id, (await directory.sighted(Sighting("old", "s", "a@old"))).id}
        return found == {target.id}

    await eventually(led)


async def test_a_chain_of_merges_is_followed_from_memory(accounts: Accounts, watched: Directory) -> None:
    people = [await watched.sighted(Sighting(realm, "s")) for realm in ("a", "b", "c")]
    await accounts.merge_users(people[0].id, people[1].id)
    await accounts.merge_users(people[1].id, people[2].id)

    async def led() -> bool:
        seen = {(await watched.sighted(Sighting(realm, "s"))).id for realm in ("a", "b", "c")}
        known = {getattr(await watched.user(user.id), "id", None) for user in people}
        return seen == known == {people[2].id}

    await eventually(led)


async def test_a_merged_identity_known_once_costs_no_further_query(
    accounts: Accounts, directory: Directory, queries: list[str]
) -> None:
    source, target = [await accounts.sight(Sighting(realm, "s", f"a@{realm}")) for realm in ("old", "new")]
    await accounts.merge_users(source.id, target.id)
    sighting = Sighting("old", "s", "a@old", "Another Name")
    await directory.sighted(sighting)
    await directory.user(source.id)
    queries.clear()
    for _ in range(3):
        assert (await directory.sighted(sighting)).id == target.id
        found = await directory.user(source.id)
        assert found is not None and found.id == target.id
    assert queries == []


async def test_an_answer_older_than_a_notice_is_not_remembered(
    accounts: Accounts, directory: Directory, queries: list[str]
) -> None:
    user, _, _ = await user_with_key(accounts)
    queries.clear()
    asking = asyncio.create_task(directory.user(user.id))
    await asyncio.sleep(0)
    directory.changed("users", str(user.id))
    assert await asking == user
    await directory.user(user.id)
    assert len(queries) == 2


async def test_nothing_is_believed_for_long_while_no_notice_can_come(
    accounts: Accounts, directory: Directory, queries: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.directory._DEAF_S", 0.0)
    user, _, _ = await user_with_key(accounts)
    directory.everything_changed(listening=False)
    queries.clear()
    for _ in range(2):
        await directory.user(user.id)
    assert len(queries) == 2
    directory.everything_changed(listening=True)
    for _ in range(2):
        await directory.user(user.id)
    assert len(queries) == 3


async def test_a_wrong_secret_under_a_right_prefix_proves_nothing(accounts: Accounts, directory: Directory) -> None:
    user = await accounts.create_user(name="a")
    right, wrong = mint(), mint()
    await accounts.create_key(name="k", user_id=user.id, minted=wrong._replace(secret=right.secret))
    assert await directory.key(wrong.full) is None


async def test_a_wrong_key_asked_again_costs_no_query(directory: Directory, queries: list[str]) -> None:
    full = mint().full
    for _ in range(3):
        assert await directory.key(full) is None
    assert len(queries) == 1


async def test_malformed_text_costs_no_query_at_all(directory: Directory, queries: list[str]) -> None:
    for presented in ("", "nonsense", mint().full[:-1]):
        assert await directory.key(presented) is None
    assert queries == []


async def test_a_flood_of_made_up_keys_shares_its_queries(directory: Directory, queries: list[str]) -> None:
    assert set(await asyncio.gather(*(directory.key(mint().full) for _ in range(1000)))) == {None}
    assert len(queries) <= 5


async def test_calls_that_see_a_new_user_at_once_share_one_transaction(
    directory: Directory, queries: list[str]
) -> None:
    seen = await asyncio.gather(*(directory.sighted(Sighting("r", "s", "a@b")) for _ in range(64)))
    assert len({user.id for user in seen}) == 1
    assert len(queries) == 2  # before and after the lock, once for all of them


async def test_a_caller_who_leaves_does_not_undo_the_sighting(directory: Directory) -> None:
    first = asyncio.create_task(directory.sighted(Sighting("r", "s")))
    second = asyncio.create_task(directory.sighted(Sighting("r", "s")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).subject == "s"


async def test_a_new_name_is_followed_from_memory(directory: Directory) -> None:
    await directory.sighted(Sighting("r", "s", "a@b", "Ann"))
    assert (await directory.sighted(Sighting("r", "s", "a@b", "Anna"))).name == "Anna"
    assert (await directory.sighted(Sighting("r", "s", "a@b", ""))).name == "Anna"


async def test_the_last_use_is_noted_at_the_end(accounts: Accounts) -> None:
    _, full, _ = await user_with_key(accounts)
    directory = Directory(accounts)
    await directory.start()
    await directory.key(full)
    await directory.aclose()
    (key,) = await accounts.list_keys()
    assert key.last_used_at is not None


async def test_a_use_that_cannot_be_noted_is_kept_for_the_next_time(accounts: Accounts, engine: AsyncEngine) -> None:
    _, full, _ = await user_with_key(accounts)
    directory = Directory(accounts)
    await directory.key(full)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE api_keys RENAME TO hidden"))
    await directory.flush()
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE hidden RENAME TO api_keys"))
    await directory.flush()
    (key,) = await accounts.list_keys()
    assert key.last_used_at is not None

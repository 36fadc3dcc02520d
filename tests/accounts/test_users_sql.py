"""Users in a real database: exactly one of each, found by what people know of them, changed by one admin at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from accounts.store_sql import Accounts, Conflict, StaleWrite
from accounts.users import Sighting
from ledger.audit import Actor
from tests.accounts.conftest import Recorded, Rows

NOBODY = UUID(int=0)
ANNE = Actor("anne", "admin", "192.0.2.1")


async def test_64_first_calls_of_a_user_make_one_user_and_one_wallet(accounts: Accounts, rows: Rows) -> None:
    seen = await asyncio.gather(*(accounts.sight(Sighting("r", "s", "a@b", "Ann")) for _ in range(64)))
    assert len({(user.id, user.wallet_id) for user in seen}) == 1
    assert await rows("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM wallets)") == [(1, 1)]


async def test_a_new_user_has_the_default_tier_unpinned_and_an_empty_wallet_that_is_due(
    accounts: Accounts, rows: Rows
) -> None:
    user = await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    assert (user.tier, user.role, user.status, user.language) == ("free", "user", "active", "en")
    assert (user.tier_pinned, user.tier_since, user.groups) == (False, user.created_at, ())
    due = f"SELECT spendable, held, state, due_at = '-infinity' FROM wallets WHERE id = '{user.wallet_id}'"
    assert await rows(due) == [(0, 0, "active", True)]


async def test_a_user_is_known_by_subject_and_realm_and_never_by_email(accounts: Accounts) -> None:
    first = await accounts.sight(Sighting("r", "s", "a@b"))
    assert (await accounts.sight(Sighting("r", "other", "a@b"))).id != first.id
    assert (await accounts.sight(Sighting("other", "s", "a@b"))).id != first.id
    assert (await accounts.sight(Sighting("r", "s", "new@b"))).id == first.id


async def test_email_and_name_are_followed_and_silence_erases_nothing(accounts: Accounts) -> None:
    await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    followed = await accounts.sight(Sighting("r", "s", "c@d", ""))
    assert (followed.email, followed.name) == ("c@d", "Ann")


async def test_an_unchanged_sighting_writes_nothing(accounts: Accounts, rows: Rows) -> None:
    await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    before = await rows("SELECT xmin FROM users")
    await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    assert await rows("SELECT xmin FROM users") == before


async def test_a_sighting_is_nobodys_deed(accounts: Accounts, recorded: Recorded) -> None:
    await accounts.sight(Sighting("r", "s", "a@b", "Ann"))
    await accounts.sight(Sighting("r", "s", "c@d", "Ann"))
    assert await recorded() == []


async def test_a_deleted_user_is_not_followed(accounts: Accounts) -> None:
    user = await accounts.sight(Sighting("r", "s", "a@b"))
    await accounts.set_status(user.id, "deleted")
    seen = await accounts.sight(Sighting("r", "s", "c@d"))
    assert (seen.status, seen.email) == ("deleted", "a@b")


async def test_a_user_is_found_by_id_subject_or_email(accounts: Accounts) -> None:
    user = await accounts.create_user(name="Ann", email="Ann@Example.com", subject="ann", tier="pro", role="vip")
    for who in (str(user.id), "ann", "ann@example.COM"):
        assert await accounts.find_user(who) == user
    assert await accounts.find_user("nobody") is None


async def test_an_email_two_users_share_finds_neither(accounts: Accounts) -> None:
    await accounts.create_user(name="a", email="x@y")
    await accounts.create_user(name="b", email="x@y")
    assert await accounts.find_user("x@y") is None


async def test_a_user_made_twice_under_one_subject_is_one_and_recorded_once(
    accounts: Accounts, recorded: Recorded
) -> None:
    first = await accounts.create_user(name="Ann", subject="ann", language="de", by=ANNE)
    assert await accounts.create_user(name="Bob", subject="ann", tier="pro", by=ANNE) == first
    ((action, target, actor, before, after),) = await recorded()
    assert (action, target, actor, before) == ("user.create", str(first.id), "anne", None)
    assert (after["name"], after["language"], after["tier_pinned"]) == ("Ann", "de", False)


async def test_a_user_who_shall_be_a_new_one_is_not_an_old_one(accounts: Accounts, recorded: Recorded) -> None:
    first = await accounts.create_user(name="Ann", realm="chat", subject="ann", only_new=True)
    assert (first.realm, first.subject) == ("chat", "ann")
    with pytest.raises(Conflict, match=str(first.id)):
        await accounts.create_user(name="Bob", realm="chat", subject="ann", only_new=True)
    assert (await accounts.create_user(name="Bob", subject="ann", only_new=True)).id != first.id
    assert len(await recorded()) == 2


async def test_a_tier_somebody_names_is_pinned_from_the_beginning(accounts: Accounts) -> None:
    assert (await accounts.create_user(name="a", tier="pro")).tier_pinned


async def test_nobody_can_be_changed_or_found(accounts: Accounts) -> None:
    assert await accounts.set_status(NOBODY, "suspended") is None
    assert await accounts.change_user(NOBODY, name="x") is None
    assert await accounts.user(NOBODY) is None
    assert await accounts.revoke_sessions(NOBODY) == 0


async def test_a_subject_of_no_or_too_many_characters_is_refused(accounts: Accounts) -> None:
    for subject in ("", "x" * 256):
        with pytest.raises(ValueError, match="1 to 255"):
            await accounts.sight(Sighting("r", subject))


async def test_a_change_is_written_and_recorded_by_what_differs(accounts: Accounts, recorded: Recorded) -> None:
    user = await accounts.create_user(name="Ann", email="a@b")
    changed = await accounts.change_user(user.id, expected=user.updated_at, by=ANNE, name="Anna", role="vip")
    assert changed is not None and (changed.name, changed.role, changed.email) == ("Anna", "vip", "a@b")
    assert (await recorded())[-1] == (
        "user.change",
        str(user.id),
        "anne",
        {"name": "Ann", "role": "user"},
        {"name": "Anna", "role": "vip"},
    )


async def test_what_is_as_it_was_is_neither_written_nor_recorded(accounts: Accounts, recorded: Recorded) -> None:
    user = await accounts.create_user(name="Ann")
    before = await recorded()
    assert await accounts.change_user(user.id, name="Ann") == user
    assert await accounts.set_status(user.id, "active") == user
    assert await recorded() == before


async def test_of_two_admins_who_saw_the_same_user_one_is_told_to_look_again(accounts: Accounts) -> None:
    user = await accounts.create_user(name="Ann")
    writes = (accounts.change_user(user.id, expected=user.updated_at, name=name) for name in ("Bea", "Cleo"))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["StaleWrite", "User"]


async def test_of_32_writers_who_read_first_every_one_is_told_or_counted(
    accounts: Accounts, recorded: Recorded
) -> None:
    user = await accounts.create_user(name="0")

    async def count_up() -> None:
        while True:
            seen = await accounts.user(user.id)
            assert seen is not None
            try:
                await accounts.change_user(user.id, expected=seen.updated_at, name=str(int(seen.name) + 1))
            except StaleWrite:
                continue
            return

    await asyncio.gather(*(count_up() for _ in range(32)))
    counted = await accounts.user(user.id)
    assert counted is not None and counted.name == "32"
    assert [after["name"] for action, _, _, _, after in await recorded() if action == "user.change"] == [
        str(number) for number in range(1, 33)
    ]


async def test_what_no_admin_sets_cannot_be_set(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    with pytest.raises(ValueError, match="wallet_id"):
        await accounts.change_user(user.id, wallet_id="x")


async def test_a_user_is_suspended_deleted_and_restored(accounts: Accounts, recorded: Recorded) -> None:
    user = await accounts.create_user(name="a")
    for status in ("suspended", "deleted", "active"):
        changed = await accounts.set_status(user.id, status, by=ANNE)
        assert changed is not None and changed.status == status
    assert [row[0] for row in await recorded()] == ["user.create", *["user.status"] * 3]


async def test_a_merged_account_is_not_restored(accounts: Accounts) -> None:
    source, target = await accounts.create_user(name="a"), await accounts.create_user(name="b")
    await accounts.merge_users(source.id, target.id)
    with pytest.raises(Conflict, match="goes on there"):
        await accounts.set_status(source.id, "active")


async def test_sessions_end_and_keys_are_revoked_together(accounts: Accounts, recorded: Recorded) -> None:
    user, other = await accounts.create_user(name="a"), await accounts.create_user(name="b")
    for name in ("x", "y"):
        await accounts.create_key(name=name, user_id=user.id)
    _, kept = await accounts.create_key(name="z", user_id=other.id)
    assert await accounts.revoke_sessions(user.id, by=ANNE) == 2
    changed = await accounts.user(user.id)
    assert changed is not None and changed.sessions_from is not None and user.created_at is not None
    assert timedelta(0) < changed.sessions_from - user.created_at < timedelta(minutes=5)
    assert [key.id for key in await accounts.list_keys(alive=True)] == [kept.id]
    action, _, actor, _, after = (await recorded())[-1]
    assert (action, actor, len(after["keys_revoked"])) == ("user.sessions", "anne", 2)
    assert await accounts.revoke_sessions(user.id) == 0

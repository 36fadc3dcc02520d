"""Admins' accounts in the database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admin_api.admin_accounts import Admin, AdminAccounts, EmailTaken, LastOwner, StaleAdmin
from admin_api.logins import Try
from admin_api.sessions import Sessions
from admin_api.tokens import Tokens
from tests.admin_api.conftest import BY, MakeAccount


@pytest.fixture
def admins(engine: AsyncEngine) -> AdminAccounts:
    return AdminAccounts(engine)


async def audited(engine: AsyncEngine) -> list[Any]:
    """What the audit has, oldest first."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT action, actor, before, after FROM audit ORDER BY seq"))
        return [tuple(row) for row in rows]


async def test_an_account_is_found_by_its_id_and_its_address_in_any_case(
    admins: AdminAccounts, account: MakeAccount
) -> None:
    ada = await account("ada")
    assert await admins.find(ada.id) == await admins.by_email("ADA@example.org") == ada
    assert (ada.role, ada.status, ada.version, ada.last_login_at) == ("admin", "active", 1, None)


async def test_an_address_belongs_to_one_account_until_it_is_deleted(
    admins: AdminAccounts, account: MakeAccount
) -> None:
    ada, bob = await account("ada"), await account("bob")
    with pytest.raises(EmailTaken):
        await account("ADA")
    with pytest.raises(EmailTaken):
        await admins.change(bob.id, expected=None, by=BY, email="Ada@example.org")
    await admins.change(ada.id, expected=None, by=BY, status="deleted")
    assert await admins.find(ada.id) is None and await admins.by_email(ada.email) is None
    assert (await account("ada")).id != ada.id


async def test_a_change_counts_and_is_audited_without_a_hash(
    engine: AsyncEngine, admins: AdminAccounts, account: MakeAccount
) -> None:
    ada = await account("ada")
    changed = await admins.change(ada.id, expected=1, by=BY, name="Ada L.", password_hash="hush")
    assert changed is not None and (changed.version, changed.name, changed.password_hash) == (2, "Ada L.", "hush")
    shown = {"email": "ada@example.org", "name": "ada", "role": "admin", "status": "active"}
    assert await audited(engine) == [
        ("admin.create", "tester", None, shown),
        ("admin.change", "tester", shown, {**shown, "name": "Ada L.", "password": "changed"}),
    ]


async def test_a_stale_write_changes_nothing(engine: AsyncEngine, admins: AdminAccounts, account: MakeAccount) -> None:
    ada = await account("ada")
    tries = (admins.change(ada.id, expected=1, by=BY, name=f"Ada {number}") for number in range(8))
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, Admin) for result in results) == 1
    assert sum(isinstance(result, StaleAdmin) for result in results) == 7
    assert len(await audited(engine)) == 2


async def test_nobody_is_changed_where_nobody_is(admins: AdminAccounts, account: MakeAccount) -> None:
    ada = await account("ada")
    await admins.change(ada.id, expected=None, by=BY, status="deleted")
    assert await admins.change(ada.id, expected=None, by=BY, name="x") is None


@pytest.mark.parametrize("news", [{"role": "admin"}, {"status": "suspended"}, {"status": "deleted"}], ids=str)
async def test_the_last_owner_stays_one(admins: AdminAccounts, account: MakeAccount, news: dict[str, str]) -> None:
    ada = await account("ada", "owner")
    suspended = await account("eve", "owner")
    await admins.change(suspended.id, expected=None, by=BY, status="suspended")
    with pytest.raises(LastOwner):
        await admins.change(ada.id, expected=None, by=BY, **news)
    assert await admins.change(ada.id, expected=None, by=BY, name="still changeable")
    await account("bob", "owner")
    assert await admins.change(ada.id, expected=None, by=BY, **news)


async def test_owners_that_remove_each_other_leave_one(admins: AdminAccounts, account: MakeAccount) -> None:
    owners = [await account(f"owner{number}", "owner") for number in range(8)]
    removals = (admins.change(each.id, expected=None, by=BY, status="deleted") for each in owners)
    results = await asyncio.gather(*removals, return_exceptions=True)
    assert sum(isinstance(result, LastOwner) for result in results) == 1
    assert len(await admins.page()) == 1


@pytest.mark.parametrize(
    ("news", "ends"),
    [
        ({"role": "support"}, True),
        ({"status": "suspended"}, True),
        ({"password_hash": "other"}, True),
        ({"name": "x"}, False),
        ({"role": "admin"}, False),
    ],
    ids=str,
)
async def test_what_takes_rights_away_ends_the_sessions(
    engine: AsyncEngine, admins: AdminAccounts, account: MakeAccount, news: dict[str, str], ends: bool
) -> None:
    ada, bob = await account("ada"), await account("bob")
    sessions = Sessions(engine, Tokens(b"p" * 32))
    his, hers = [await sessions.begin(each.id, "h", Try(each.email, "")) for each in (bob, ada)]
    assert his is not None and hers is not None
    await admins.change(ada.id, expected=None, by=BY, **news)
    assert (await sessions.standing(hers.session_id) is None) is ends
    assert await sessions.standing(his.session_id) is not None


async def test_a_page_begins_behind_the_last_one(admins: AdminAccounts, account: MakeAccount) -> None:
    made = [await account(f"a{number}") for number in range(5)]
    first = await admins.page(limit=2)
    rest = await admins.page(after=(first[-1].created_at, first[-1].id), limit=9)
    assert [*first, *rest] == made


async def test_a_search_takes_every_sign_for_itself(admins: AdminAccounts, account: MakeAccount) -> None:
    await account("ada_l")
    await account("adaxl")
    assert [each.name for each in await admins.page(search="ADA_")] == ["ada_l"]
    assert await admins.page(search="%") == []


async def test_a_hash_is_replaced_only_while_it_is_the_same_password(
    admins: AdminAccounts, account: MakeAccount
) -> None:
    ada = await account("ada")
    await admins.keep_hash(ada.id, "another", "newer")
    assert (await admins.find(ada.id)) == ada
    await admins.keep_hash(ada.id, "h", "newer")
    found = await admins.find(ada.id)
    assert found is not None and (found.password_hash, found.version) == ("newer", 1)

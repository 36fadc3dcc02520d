"""Lists of users: every user once, page by page; a search finds parts of words and takes wildcards as letters."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store_sql import Accounts
from accounts.user_rows import listed
from accounts.users import Sighting, User
from tests.accounts.conftest import Rows


async def people(accounts: Accounts) -> list[User]:
    return [
        await accounts.create_user(name="Ann Arbor", email="ann@example.com", subject="s-1", tier="pro"),
        await accounts.create_user(name="Bob", email="BOB_x@example.com", subject="s-2", role="vip"),
        await accounts.create_user(name="100% Carla", email="c@example.org", subject="s\\3"),
        await accounts.sight(Sighting("realm", "BOBx", "d@example.org", "Dana")),
    ]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", "Ann Arbor, Bob, 100% Carla, Dana"),
        ("ARB", "Ann Arbor"),
        ("example.com", "Ann Arbor, Bob"),
        ("bob", "Bob, Dana"),
        ("bob_x", "Bob"),
        ("0% c", "100% Carla"),
        ("%", "100% Carla"),
        ("s\\3", "100% Carla"),
        ("com ann", "Ann Arbor"),
        ("nobody", ""),
    ],
)
async def test_a_search_finds_a_part_of_email_name_or_subject(accounts: Accounts, search: str, found: str) -> None:
    await people(accounts)
    assert ", ".join(user.name for user in await accounts.list_users(search=search)) == found


async def test_a_search_for_an_id_finds_that_user(accounts: Accounts) -> None:
    ann, *_ = await people(accounts)
    assert await accounts.list_users(search=str(ann.id)) == [ann]
    assert await accounts.list_users(search=str(UUID(int=0))) == []


async def test_a_search_for_an_id_finds_who_has_it_as_subject(accounts: Accounts) -> None:
    known_elsewhere_as = str(UUID(int=4711))
    user = await accounts.sight(Sighting("open-webui", known_elsewhere_as))
    assert await accounts.list_users(search=known_elsewhere_as.upper()) == [user]


async def test_every_filter_narrows(accounts: Accounts) -> None:
    ann, bob, carla, dana = await people(accounts)
    group = (await accounts.create_group(name="g")).group
    await accounts.add_member(group.id, carla.id)
    await accounts.set_status(dana.id, "suspended")
    for told, wanted in (
        ({"tier": "pro"}, [ann]),
        ({"role": "vip"}, [bob]),
        ({"group": group.id}, [carla]),
        ({"status": "suspended"}, [dana]),
        ({"status": "active", "tier": "free", "search": "example"}, [bob, carla]),
    ):
        arguments: dict[str, Any] = told
        found = await accounts.list_users(**arguments)
        assert [user.id for user in found] == [user.id for user in wanted]


async def test_the_deleted_are_listed_where_they_are_asked_for(accounts: Accounts) -> None:
    kept, gone = [await accounts.create_user(name=name) for name in "ab"]
    await accounts.set_status(gone.id, "deleted")

    async def found(**told: Any) -> list[UUID]:
        return [user.id for user in await accounts.list_users(**told)]

    assert await found() == [kept.id, gone.id]
    assert await found(deleted=False) == [kept.id]
    assert await found(deleted=False, status="deleted") == [gone.id]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_show_everybody_once_though_users_come_in_between(
    accounts: Accounts, rows: Rows, newest_first: bool
) -> None:
    made = [(await accounts.create_user(name=str(number))).id for number in range(7)]
    # Some of one instant: then the id tells them apart.
    await rows("UPDATE users SET created_at = '2026-01-01' WHERE name < '4'")
    seen: list[UUID] = []
    after: tuple[datetime, UUID] | None = None
    while page := await accounts.list_users(newest_first=newest_first, after=after, limit=2):
        seen += [user.id for user in page]
        assert page[-1].created_at is not None
        after = (page[-1].created_at, page[-1].id)
        if newest_first:
            await accounts.create_user(name="later")
    assert seen == (made[::-1] if newest_first else made)


async def test_no_page_is_longer_than_a_thousand(accounts: Accounts, rows: Rows) -> None:
    await rows("""
        WITH wallet AS (
            INSERT INTO wallets (id, due_at) SELECT gen_random_uuid(), now() FROM generate_series(1, 1001) RETURNING id)
        INSERT INTO users (id, wallet_id, realm, subject, tier) SELECT gen_random_uuid(), id, 'r', id, 't' FROM wallet
    """)
    assert len(await accounts.list_users(limit=5000)) == 1000


async def test_a_search_goes_by_the_index_of_the_texts(engine: AsyncEngine) -> None:
    query = listed("needle", None, {}, newest_first=False, after=None, limit=50)
    compiled = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call]
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL enable_indexscan = off"))
        plan = "\n".join(row[0] for row in await connection.exec_driver_sql(f"EXPLAIN {compiled}"))
    assert "users_by_text" in plan


async def test_a_user_and_its_groups_are_one_query(accounts: Accounts) -> None:
    user = await accounts.create_user(name="a")
    groups = [(await accounts.create_group(name=name)).group.id for name in "ba"]
    for group in groups:
        await accounts.add_member(group, user.id)
    found = await accounts.user(user.id)
    assert found is not None and found.groups == tuple(sorted(groups))


async def test_who_is_made_belongs_to_no_group_whoever_else_does(accounts: Accounts) -> None:
    group = (await accounts.create_group(name="g", shared=True)).group
    await accounts.add_member(group.id, (await accounts.create_user(name="member")).id)
    assert (await accounts.create_user(name="made")).groups == ()
    seen = await accounts.sight(Sighting("r", "seen"))
    assert seen.groups == ()
    assert (await accounts.sight(Sighting("r", "seen", "a@b"))).groups == ()

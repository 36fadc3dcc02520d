"""What is kept of an Open WebUI between two syncs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import FORWARD_USERS
from accounts.store_sql import Accounts
from config.catalog_sql import load
from openwebui.kept import Mark
from openwebui.mirror_sql import REPORTS_KEPT, Mirror
from openwebui.report import Report
from tests.ledger.till import Till
from tests.openwebui.conftest import Rows

AT = datetime(2026, 12, 1, tzinfo=UTC)


async def test_nothing_is_kept_at_first(engine: AsyncEngine) -> None:
    mirror = Mirror(engine, "r")
    kept = await mirror.kept()
    assert (kept.accounts, kept.marks, kept.circles, kept.names) == ({}, {}, {}, {})
    assert await mirror.last_report() is None


async def test_accounts_come_with_their_groups_and_with_those_that_go_on(
    engine: AsyncEngine, accounts: Accounts
) -> None:
    target = await accounts.create_user(name="T", email="t@x")
    source = await accounts.create_user(name="S", realm="r", subject="s")
    await accounts.create_user(name="O", realm="other", subject="o")
    group = (await accounts.create_group(name="team")).group
    await accounts.add_member(group.id, target.id)
    await accounts.merge_users(source.id, target.id)
    kept = await Mirror(engine, "r").kept()
    assert set(kept.accounts) == {target.id, source.id} and kept.names == {"team": group.id}
    assert kept.going_on(kept.accounts[source.id]).groups == {group.id}


async def test_realms_are_kept_apart(engine: AsyncEngine, accounts: Accounts) -> None:
    one, two = Mirror(engine, "one"), Mirror(engine, "two")
    group = (await accounts.create_group(name="team")).group
    await one.link("g", group.id)
    await one.write_marks({"u": Mark("user")})
    await one.write_report(Report(AT, "done"))
    kept = await two.kept()
    assert (kept.marks, kept.circles, await two.last_report()) == ({}, {}, None)


async def test_marks_are_written_over(engine: AsyncEngine) -> None:
    mirror = Mirror(engine, "r")
    await mirror.write_marks({f"u{n}": Mark("user") for n in range(2500)})
    await mirror.write_marks({"u7": Mark("admin", here=False, suspended=True)})
    marks = (await mirror.kept()).marks
    assert len(marks) == 2500 and marks["u7"] == Mark("admin", here=False, suspended=True)
    await mirror.write_marks({})


async def test_a_retired_group_is_known_as_that(engine: AsyncEngine, accounts: Accounts) -> None:
    mirror = Mirror(engine, "r")
    group = (await accounts.create_group(name="team")).group
    await mirror.link("g", group.id)
    await accounts.retire_group(group.id)
    kept = await mirror.kept()
    assert kept.circles["g"].retired and kept.names == {}


async def test_reports_are_kept_up_to_a_bound(engine: AsyncEngine, rows: Rows) -> None:
    mirror = Mirror(engine, "r")
    for number in range(REPORTS_KEPT + 3):
        await mirror.write_report(Report(AT, "done", changes=number))
    assert await rows("SELECT count(*) FROM openwebui_syncs") == [(REPORTS_KEPT,)]
    last = await mirror.last_report()
    assert last is not None and last.changes == REPORTS_KEPT + 2


async def test_what_is_shown_anywhere_is_in_the_catalogue(engine: AsyncEngine, rows: Rows) -> None:
    now = datetime.now(UTC)
    assert (await load(engine)).shown is None
    await Mirror(engine, "one").write_shown({"a"}, now)
    before = (await load(engine)).revision
    await Mirror(engine, "one").write_shown({"b"}, now)
    await Mirror(engine, "two").write_shown({"c"}, now)
    after = await load(engine)
    assert after.shown == frozenset({"b", "c"}) and after.revision != before
    await rows("UPDATE openwebui_models SET at = at - interval '31 days'")
    assert (await load(engine)).shown is None


async def test_ordinary_users_who_chat_see_models(engine: AsyncEngine, accounts: Accounts) -> None:
    mirror, till = Mirror(engine, "r"), await Till.open(engine)
    service = (await accounts.create_key(name="s", scopes=[FORWARD_USERS], realm="r"))[1].id
    since = datetime.now(UTC) - timedelta(days=1)

    async def charged(subject: str, key_id: UUID) -> bool:
        user = await accounts.create_user(name=subject, realm="r", subject=subject)
        ask = till.ask(await till.wallet(1000), 10)
        facts = msgspec.structs.replace(ask.facts, user_id=user.id, key_id=key_id)
        ask = msgspec.structs.replace(ask, facts=facts)
        await till.bank.open_holds([ask])
        await till.bank.close([till.event(ask, 5)])
        return await mirror.chats(since)

    await mirror.write_marks({"a": Mark("admin"), "u": Mark("user")})
    assert not await charged("a", service)
    assert not await charged("never seen there", service)
    assert not await charged("u", uuid4())
    assert await charged("u", service)
    assert not await mirror.chats(datetime.now(UTC) + timedelta(hours=1))

"""People, groups and models of an Open WebUI, brought here; and nobody hurt by a list that is not whole."""

from __future__ import annotations

import asyncio

import pytest

from accounts.store_sql import Accounts
from accounts.users import User
from ledger.audit import Actor
from openwebui.sync import Sync
from tests.openwebui.conftest import MakeSync, Rows
from tests.openwebui.fake import FakeOpenWebUI, entry

ADA = Actor("ada@example.org", "admin", "192.0.2.1")


@pytest.fixture
def sync(make_sync: MakeSync) -> Sync:
    return make_sync()


async def account(accounts: Accounts, who: str) -> User:
    found = await accounts.find_user(who)
    assert found is not None, who
    return found


async def test_everybody_gets_an_account_and_a_second_sync_changes_nothing(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    grace = there.add("Grace Müller", "grace@example.org")
    report = await sync.run()
    assert (report.outcome, report.people, report.changes) == ("done", 2, 2)
    assert "grace@example.org gets an account" in report.lines
    user = await account(accounts, grace)
    assert (user.realm, user.email, user.name, user.role) == ("open-webui", "grace@example.org", "Grace Müller", "user")
    assert (await account(accounts, "admin@example.org")).role == "admin"
    again = await sync.run()
    assert (again.outcome, again.changes, again.lines) == ("unchanged", 0, ())


async def test_a_dry_run_tells_the_difference_and_changes_nothing(sync: Sync, there: FakeOpenWebUI, rows: Rows) -> None:
    there.add("Grace", groups=(there.group("team"),))
    report = await sync.run(ADA, dry_run=True)
    assert report.outcome == "tried"
    assert {"grace@example.org gets an account", "the group team is made"} <= set(report.lines)
    assert "grace@example.org joins the group team" in report.lines
    assert await rows("SELECT 1 FROM users") == await rows("SELECT 1 FROM groups") == []
    assert await rows("SELECT 1 FROM audit") == await rows("SELECT 1 FROM openwebui_syncs") == []
    assert there.written() == []


async def test_names_addresses_and_roles_follow(sync: Sync, there: FakeOpenWebUI, accounts: Accounts) -> None:
    grace = there.add("Grace")
    await sync.run()
    there.user(grace).update(name="Grace Hopper", email="hopper@example.org", role="admin")
    report = await sync.run()
    assert [line for line in report.lines if "Grace Hopper" in line and "hopper@example.org" in line]
    user = await account(accounts, grace)
    assert (user.name, user.email, user.role) == ("Grace Hopper", "hopper@example.org", "admin")
    there.user(grace)["role"] = "user"
    await sync.run()
    assert (await account(accounts, grace)).role == "user"


async def test_a_role_an_admin_gave_here_stays_while_nothing_changes_there(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    grace = there.add("Grace")
    await sync.run()
    await accounts.change_user((await account(accounts, grace)).id, role="vip")
    assert (await sync.run()).outcome == "unchanged"
    assert (await account(accounts, grace)).role == "vip"


async def test_whoever_is_deleted_there_is_suspended_here_and_keeps_the_money(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts, rows: Rows
) -> None:
    grace = there.add("Grace", groups=(there.group("team"),))
    await sync.run()
    before = await account(accounts, grace)
    there.remove(grace)
    report = await sync.run()
    assert "grace@example.org is suspended: deleted there" in report.lines
    user = await account(accounts, grace)
    assert (user.status, user.wallet_id, user.groups) == ("suspended", before.wallet_id, ())
    assert await rows(f"SELECT 1 FROM wallets WHERE id = '{user.wallet_id}'") == [(1,)]


async def test_whoever_is_there_again_is_active_again_unless_an_admin_decided_otherwise(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    there.users += [dict(there.users[0], id=f"u{n}", email=f"u{n}@example.org", role="user") for n in range(2)]
    await sync.run()
    by_hand = await account(accounts, "u1")
    await accounts.set_status(by_hand.id, "suspended", by=ADA)
    gone, there.users = there.users[1:], there.users[:1]
    await sync.run()
    there.users += gone
    report = await sync.run()
    assert "u0@example.org is active again" in report.lines
    assert (await account(accounts, "u0")).status == "active"
    assert (await account(accounts, "u1")).status == "suspended"


async def test_whoever_an_admin_lets_go_on_is_not_suspended_again(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    grace = there.add("Grace")
    await sync.run()
    there.remove(grace)
    await sync.run()
    await accounts.set_status((await account(accounts, grace)).id, "active", by=ADA)
    assert (await sync.run()).outcome == "unchanged"
    assert (await account(accounts, grace)).status == "active"


async def test_whoever_waits_for_approval_has_no_account_and_whoever_is_put_back_is_suspended(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    waiting, put_back = there.add("Waiting", role="pending"), there.add("Back")
    await sync.run()
    assert await accounts.find_user(waiting) is None
    there.user(put_back)["role"] = "pending"
    assert "back@example.org is suspended: pending there" in (await sync.run()).lines
    there.user(put_back)["role"] = "user"
    await sync.run()
    assert (await account(accounts, put_back)).status == "active"


async def test_an_account_that_was_never_seen_there_is_left_alone(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    stranger = await accounts.create_user(name="Elsewhere", realm="open-webui", subject="from-another-one")
    local = await accounts.create_user(name="By hand")
    await sync.run()
    assert (await sync.run()).outcome == "unchanged"
    for each in (stranger, local):
        assert (await account(accounts, str(each.id))).status == "active"


async def test_memberships_follow_by_id_and_inherited_ones_count(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    above = there.group("Größe, 2")
    below = there.group("Größe, 2", above)
    grace = there.add("Grace", groups=(below,))
    await sync.run()
    names = {each.group.id: each.group.name for each in await accounts.list_groups()}
    assert sorted(names.values()) == sorted(["Größe, 2", f"Größe, 2 ({max(above, below)[:8]})"])
    assert set((await account(accounts, grace)).groups) == set(names)
    there.user(grace)["group_ids"] = [above]
    report = await sync.run()
    assert len(report.lines) == 1 and report.lines[0].startswith("grace@example.org leaves the group Größe, 2")
    assert len((await account(accounts, grace)).groups) == 1


async def test_a_group_gives_its_tier_and_keeps_it_when_it_is_called_otherwise(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    team = there.group("team")
    there.add("Grace", groups=(team,))
    await sync.run()
    [kept] = await accounts.list_groups()
    await accounts.change_group(kept.group.id, tier="pro")
    there.circles[0]["name"] = "crew"
    report = await sync.run()
    assert report.lines == ("the group team is called crew",)
    [kept] = await accounts.list_groups()
    assert (kept.group.name, kept.group.tier, kept.members) == ("crew", "pro", 1)


async def test_a_group_that_is_gone_is_retired(sync: Sync, there: FakeOpenWebUI, accounts: Accounts) -> None:
    there.add("Grace", groups=(there.group("team"),))
    await sync.run()
    there.circles.clear()
    report = await sync.run()
    assert report.lines == ("the group team is retired; it had 1 member",)
    assert await accounts.list_groups() == []
    assert (await sync.run()).outcome == "unchanged"


async def test_a_name_that_is_taken_here_gets_the_beginning_of_the_id(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    await accounts.create_group(name="team")
    team = there.group("team")
    await sync.run()
    assert {each.group.name for each in await accounts.list_groups()} == {"team", f"team ({team[:8]})"}


async def test_members_of_other_realms_stay_in_a_group_from_there(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    there.group("team")
    await sync.run()
    [kept] = await accounts.list_groups()
    local = await accounts.create_user(name="By hand")
    await accounts.add_member(kept.group.id, local.id)
    assert (await sync.run()).outcome == "unchanged"
    assert (await account(accounts, str(local.id))).groups == (kept.group.id,)


async def test_whoever_was_made_anew_is_offered_as_a_merge_and_never_merged_by_itself(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    before = there.add("Grace", "grace@example.org")
    await sync.run()
    there.remove(before)
    again = there.add("Grace", "Grace@example.org")
    report = await sync.run()
    old, new = await account(accounts, before), await account(accounts, again)
    assert [(each.source, each.into) for each in report.merges] == [(old.id, new.id)]
    assert (old.merged_into, old.status, new.status) == (None, "suspended", "active")
    await accounts.merge_users(old.id, new.id, by=ADA)
    after = await sync.run()
    assert (after.outcome, after.merges) == ("unchanged", ())
    assert (await account(accounts, again)).status == "active"


async def test_an_account_lives_while_one_of_its_identities_does(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    team = there.group("team")
    first, second = there.add("Grace", "one@example.org"), there.add("Grace", "two@example.org", groups=(team,))
    await sync.run()
    kept = await account(accounts, second)
    await accounts.merge_users(kept.id, (await account(accounts, first)).id, by=ADA)
    there.remove(first)
    await sync.run()
    user = await account(accounts, first)
    assert (user.status, len(user.groups)) == ("active", 1)
    there.remove(second)
    await sync.run()
    assert (await account(accounts, first)).status == "suspended"


@pytest.mark.parametrize("page", ["/api/v1/users/?page=2&order_by=email&direction=asc", "/api/v1/groups/"])
async def test_a_page_that_does_not_come_takes_nobody_away(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts, page: str
) -> None:
    for number in range(40):
        there.add(f"u{number:02}")
    await sync.run()
    there.users = there.users[:35]
    there.broken[page] = 500
    report = await sync.run()
    assert (report.outcome, report.changes) == ("failed", 0)
    assert "500" in report.detail
    assert {each.status for each in await accounts.list_users(limit=100)} == {"active"}


async def test_a_list_that_says_it_is_longer_than_it_is_takes_nobody_away(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    for number in range(4):
        there.add(f"u{number}")
    await sync.run()
    there.users[2]["id"] = there.users[3]["id"]
    report = await sync.run()
    assert report.outcome == "failed" and "changed while it was read" in report.detail
    assert {each.status for each in await accounts.list_users(limit=100)} == {"active"}


async def test_more_than_a_fifth_is_refused_until_it_is_forced(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    for number in range(20):
        there.add(f"u{number:02}")
    await sync.run()
    there.users = there.users[:15]
    report = await sync.run()
    assert report.outcome == "refused" and "6 of 21 people" in report.detail and len(report.lines) == 6
    assert {each.status for each in await accounts.list_users(limit=100)} == {"active"}
    forced = await sync.run(force=True)
    assert (forced.outcome, forced.changes) == ("done", 6)
    assert sum(each.status == "suspended" for each in await accounts.list_users(limit=100)) == 6


async def test_five_people_may_go_however_few_there_are(sync: Sync, there: FakeOpenWebUI) -> None:
    for number in range(5):
        there.add(f"u{number}")
    await sync.run()
    there.users = there.users[:1]
    assert (await sync.run()).outcome == "done"


async def test_losing_a_group_counts_as_losing_something(sync: Sync, there: FakeOpenWebUI) -> None:
    team = there.group("team")
    for number in range(8):
        there.add(f"u{number}", groups=(team,))
    await sync.run()
    there.circles.clear()
    assert (await sync.run()).outcome == "refused"


async def test_one_sync_runs_at_a_time(sync: Sync, there: FakeOpenWebUI, make_sync: MakeSync) -> None:
    there.goes_on = asyncio.Event()
    first = sync.begin(ADA)
    while ("GET", "/api/v1/users/") not in there.asked:
        await asyncio.sleep(0.01)
    assert (await make_sync().run()).outcome == "busy"
    there.goes_on.set()
    assert (await first).outcome == "done"
    assert (await make_sync().run()).outcome == "unchanged"


async def test_what_was_synced_within_half_a_period_was_synced_lately(
    make_sync: MakeSync, there: FakeOpenWebUI, rows: Rows
) -> None:
    sync = make_sync(sync_every_s=600)
    assert not await sync.lately()
    await sync.run()
    assert await make_sync(sync_every_s=600).lately()
    assert not await make_sync(sync_every_s=0).lately()
    await rows("""UPDATE openwebui_syncs SET doc = jsonb_set(doc, '{at}', '"2026-01-01T00:00:00Z"')""")
    assert not await sync.lately()


async def test_what_a_sync_does_is_on_record(sync: Sync, there: FakeOpenWebUI, rows: Rows) -> None:
    there.add("Grace")
    await sync.run(ADA)
    recorded = await rows("SELECT action, actor FROM audit ORDER BY seq")
    assert recorded == [("user.create", ADA.name)] * 2 + [("openwebui.sync", ADA.name)]
    last = await sync.mirror.last_report()
    assert last is not None and (last.outcome, last.by, last.changes) == ("done", ADA.name, 2)
    await sync.run()
    assert await rows("SELECT count(*) FROM audit") == [(3,)]


async def test_an_open_webui_that_is_away_is_told_once(make_sync: MakeSync, rows: Rows) -> None:
    sync = make_sync(url="http://127.0.0.1:9")
    for _ in range(2):
        report = await sync.run()
        assert report.outcome == "failed" and "cannot be reached" in report.detail
    events = await rows("SELECT level, event FROM system_events WHERE event = 'openwebui.sync'")
    assert events == [("error", "openwebui.sync")]


async def test_the_models_shown_there_are_remembered(sync: Sync, there: FakeOpenWebUI, rows: Rows) -> None:
    there.connections |= {"OPENAI_API_BASE_URLS": ["http://farebox.example:8080/v1/"], "OPENAI_API_KEYS": ["k"]}
    there.shown = [entry("small", 0), entry("elsewhere", 1)]
    await sync.run()
    assert await rows("SELECT realm, shown FROM openwebui_models") == [("open-webui", ["small"])]


async def test_without_a_connection_to_farebox_nothing_is_said_about_models(
    sync: Sync, there: FakeOpenWebUI, rows: Rows
) -> None:
    report = await sync.run()
    assert [note for note in report.notes if "farebox connect openwebui" in note]
    assert await rows("SELECT 1 FROM openwebui_models") == []

"""Grants there, set from the tiers here."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.store_sql import Accounts
from config.catalog import Declared, Model, Upstream
from config.catalog_sql import seed
from openwebui.sync import Sync
from policies.tier import Tier
from tests.openwebui.conftest import SERVICE_URL, MakeSync
from tests.openwebui.fake import FakeOpenWebUI, entry


@pytest.fixture
async def sync(there: FakeOpenWebUI, engine: AsyncEngine, make_sync: MakeSync) -> Sync:
    """An Open WebUI that shows two models of Farebox and one of somebody else."""
    models = tuple(Model(id=name, upstream="main", upstream_model=name) for name in ("small", "large"))
    tiers = (Tier("free", models=("small",)), Tier("pro"))
    await seed(engine, Declared((Upstream("main", "http://127.0.0.1:9"),), models, tiers))
    there.connections |= {"OPENAI_API_BASE_URLS": ["http://else/v1", SERVICE_URL], "OPENAI_API_KEYS": ["", "k"]}
    there.shown = [entry("small", 1), entry("large", 1), entry("elsewhere", 0), entry("unknown", 1)]
    return make_sync()


def granted(there: FakeOpenWebUI) -> dict[str, set[str]]:
    return {row["id"]: {each["principal_id"] for each in row["access_grants"]} for row in there.rows}


async def test_people_are_shown_what_their_tiers_allow(sync: Sync, there: FakeOpenWebUI, accounts: Accounts) -> None:
    team = there.group("team")
    there.add("Grace", groups=(team,))
    there.add("Alan")
    lone = there.add("Edsger")
    await sync.run()
    [kept] = await accounts.list_groups()
    await accounts.change_group(kept.group.id, tier="pro")
    user = await accounts.find_user(lone)
    assert user is not None
    await accounts.set_tier(user.id, "pro")
    report = await sync.run(grants=True)
    assert granted(there) == {"small": {"*"}, "large": {team, lone}}
    assert "the model large is shown to 1 group and 1 user" in report.lines
    written = there.written()
    assert (await sync.run(grants=True)).outcome == "unchanged" and there.written() == written


async def test_without_the_wish_no_grant_is_touched(sync: Sync, there: FakeOpenWebUI) -> None:
    await sync.run()
    assert there.written() == [] and there.rows == []


async def test_a_dry_run_tells_what_would_be_shown(sync: Sync, there: FakeOpenWebUI) -> None:
    there.add("Grace")
    await sync.run()
    report = await sync.run(grants=True, dry_run=True)
    assert "the model large is shown to nobody but administrators" in report.lines
    assert there.written() == []


async def test_an_operators_other_grants_and_words_stay(sync: Sync, there: FakeOpenWebUI) -> None:
    write = {"principal_type": "group", "principal_id": "editors", "permission": "write"}
    there.rows = [{"id": "small", "name": "Our own", "base_model_id": None, "meta": {"description": "Ours"}}]
    there.rows[0] |= {"params": {"temperature": 0}, "access_grants": [write], "is_active": True}
    there.add("Grace")
    await sync.run(grants=True)
    row = next(each for each in there.rows if each["id"] == "small")
    assert (row["name"], row["meta"]["description"], row["params"]) == ("Our own", "Ours", {"temperature": 0})
    assert write in row["access_grants"] and len(row["access_grants"]) == 2


async def test_a_list_that_cannot_be_had_is_a_note_and_people_are_done_all_the_same(
    sync: Sync, there: FakeOpenWebUI, accounts: Accounts
) -> None:
    grace = there.add("Grace")
    there.broken["/api/models"] = 500
    report = await sync.run(grants=True)
    assert report.outcome == "done" and [each for each in report.notes if each.startswith("models: ")]
    assert await accounts.find_user(grace) is not None

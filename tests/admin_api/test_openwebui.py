"""Syncing with an Open WebUI over HTTP: by button, by its webhook, and how it went."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from openwebui.hook import PREFIX, hook_secret
from tests import house
from tests.admin_api.conftest import logged_in, problem
from tests.admin_api.world import audited
from tests.backend import Backend
from tests.house import PEPPER, Farebox, until
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI


@pytest.fixture
async def there() -> AsyncIterator[FakeOpenWebUI]:
    async with FakeOpenWebUI().running() as running:
        yield running


@pytest.fixture
async def synced(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend, there: FakeOpenWebUI
) -> AsyncIterator[Farebox]:
    """A Farebox whose people come from ``there``."""
    told: dict[str, Any] = {"openwebui": {"url": there.url, "admin_key": ADMIN_KEY}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **told) as running:
        yield running


async def test_a_button_brings_everybody_and_is_on_record(synced: Farebox, there: FakeOpenWebUI) -> None:
    there.add("Grace", "grace@example.net")
    assert (await synced.admin.read("/openwebui"))["last_sync"] is None
    tried = await synced.admin.made("/openwebui/sync", {"dry_run": True})
    assert (tried["outcome"], tried["changes"]) == ("tried", 2)
    done = await synced.admin.made("/openwebui/sync", {})
    assert (done["outcome"], done["by"], done["people"]) == ("done", "admin-key", 2)
    [user] = (await synced.admin.read("/users", search="grace@example.net"))["data"]
    assert (user["realm"], user["name"]) == ("open-webui", "Grace")
    shown = await synced.admin.read("/openwebui")
    assert shown["last_sync"] == done and shown["url"] == there.url and ADMIN_KEY not in repr(shown)
    [row] = await audited(synced.admin, action="openwebui.sync")
    assert (row["actor"], row["after"]["changes"]) == ("admin-key", 2)


async def test_whoever_may_look_may_not_sync(synced: Farebox) -> None:
    support = await logged_in(synced.admin, "support")
    assert (await support.get("/openwebui")).status == 200
    problem(await support.post("/openwebui/sync", {}), 403)


async def test_without_an_open_webui_there_is_nothing_to_sync_with(farebox: Farebox) -> None:
    problem(await farebox.admin.post("/openwebui/sync", {}), 409, "no-openwebui")
    assert (await farebox.admin.read("/openwebui"))["url"] is None
    async with farebox.http.post(f"{farebox.url}{PREFIX}{hook_secret(PEPPER.encode())}", json={}) as reply:
        assert reply.status == 404


async def test_a_webhook_has_a_sync_begin_whatever_it_says(synced: Farebox, there: FakeOpenWebUI) -> None:
    grace = there.add("Grace")
    async with synced.http.post(f"{synced.url}{PREFIX}{hook_secret(PEPPER.encode())}", data=b"{not json") as reply:
        assert reply.status == 204

    async def told() -> bool:
        return (await synced.admin.read("/openwebui"))["last_sync"] is not None

    await until(told)
    assert await synced.accounts.find_user(grace) is not None
    last = (await synced.admin.read("/openwebui"))["last_sync"]
    assert (last["outcome"], last["by"]) == ("done", "open-webui sync")


async def test_a_webhook_without_the_secret_does_nothing(synced: Farebox, there: FakeOpenWebUI) -> None:
    for path in (PREFIX, f"{PREFIX}wrong", f"{PREFIX}{hook_secret(PEPPER.encode())}x"):
        async with synced.http.post(f"{synced.url}{path}", json={"event": "user.created"}) as reply:
            assert reply.status == 404
    assert there.asked == []


async def test_whoever_is_gone_there_is_refused_here_within_two_seconds(synced: Farebox, there: FakeOpenWebUI) -> None:
    grace = there.add("Grace")
    service = {"authorization": f"Bearer {await synced.service()}", "x-openwebui-user-id": grace}
    await synced.admin.made("/openwebui/sync", {})
    assert (await synced.get("/v1/account", service)).status == 200
    there.remove(grace)
    await synced.admin.made("/openwebui/sync", {})

    async def refused() -> bool:
        answer = await synced.get("/v1/account", service)
        return answer.status == 403 and answer.error["code"] == "account_suspended"

    await until(refused)


async def test_a_tier_of_a_group_from_there_is_in_force(synced: Farebox, there: FakeOpenWebUI) -> None:
    grace = there.add("Grace", groups=(there.group("team"),))
    await synced.admin.made("/openwebui/sync", {})
    [group] = (await synced.admin.read("/groups"))["data"]
    changed = await synced.admin.patch(f"/groups/{group['id']}", {"tier": "pro"}, match=f'"{group["version"]}"')
    assert changed.status == 200, changed.body
    service = {"authorization": f"Bearer {await synced.service()}", "x-openwebui-user-id": grace}

    async def pro() -> bool:
        return bool((await synced.get("/v1/account", service)).json()["tier"] == "pro")

    await until(pro)
    there.user(grace)["group_ids"] = []
    await synced.admin.made("/openwebui/sync", {})

    async def free() -> bool:
        return bool((await synced.get("/v1/account", service)).json()["tier"] == "free")

    await until(free)

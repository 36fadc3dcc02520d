"""`farebox connect openwebui` against an Open WebUI and a running Farebox, each on its own socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from accounts.keys import FORWARD_USERS
from config.settings import Settings
from farebox.connect import Connected, Wish, connect
from farebox.desk import DeskError
from openwebui.connection import HEADERS, connections_of
from tests import house
from tests.backend import Backend
from tests.house import Farebox
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI, entry

SECRET = "a-secret-that-open-webui-and-farebox-share"


@pytest.fixture
async def there() -> AsyncIterator[FakeOpenWebUI]:
    async with FakeOpenWebUI().running() as running:
        yield running


@pytest.fixture
def settings(data_dir: Path, database_url: str, redis_url: str) -> Settings:
    return house.settings(data_dir, database_url, redis_url, openwebui={"jwt_secret": SECRET})


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """A Farebox that insists on signed users."""
    told: dict[str, Any] = {"openwebui": {"jwt_secret": SECRET}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **told) as running:
        yield running


def wish(there: FakeOpenWebUI, farebox: Farebox, **more: Any) -> Wish:
    return Wish(**{"url": there.url, "admin_key": ADMIN_KEY, "farebox_url": farebox.url, "realm": "open-webui", **more})


def said(done: Connected, subject: str) -> str:
    [found] = [each for each in done.found if each.subject == subject]
    return f"{found.verdict}: {found.says}"


async def test_it_makes_the_connection_and_the_second_time_changes_nothing(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.secret = SECRET
    done = await connect(settings, wish(there, farebox))
    assert len(done.changes) == 3, done.changes
    first, ours = connections_of(there.connections)
    assert (first.url, first.key, first.config) == ("https://api.openai.com/v1", "", {})
    assert (ours.url, ours.config["headers"], ours.enabled) == (f"{farebox.url}/v1", HEADERS, True)
    assert there.defaults["DEFAULT_MODEL_METADATA"] == {"capabilities": {"usage": True}}
    assert said(done, "users") == "ok: arrive signed, and the signature is right: tried as admin@example.org"
    written = there.written()
    again = await connect(settings, wish(there, farebox))
    assert (again.changes, there.written()) == ([], written)
    [key] = await farebox.accounts.list_keys()
    assert (key.scopes, key.realm, key.plain_headers) == ((FORWARD_USERS,), "open-webui", False)
    assert key.name == f"Open WebUI {there.url.removeprefix('http://')}"


async def test_the_key_works_and_is_nowhere_in_what_is_said(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.secret = SECRET
    done = await connect(settings, wish(there, farebox))
    [_, ours] = connections_of(there.connections)
    models = await farebox.get("/v1/models", {"authorization": f"Bearer {ours.key}"})
    assert models.status == 200
    assert ours.key not in repr(done) and ADMIN_KEY not in repr(done)


async def test_another_key_takes_the_place_of_the_first(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.secret = SECRET
    await connect(settings, wish(there, farebox))
    [_, before] = connections_of(there.connections)
    done = await connect(settings, wish(there, farebox, new_key=True))
    [_, after] = connections_of(there.connections)
    assert after.key != before.key and "the connection gets another service key" in done.changes
    old, new = await farebox.accounts.list_keys()
    assert new.rotated_from == old.id and old.expires_at is not None
    assert said(done, "users").startswith("ok")


async def test_a_key_that_open_webui_does_not_take_is_revoked(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.broken["/openai/config/update"] = 500
    done = await connect(settings, wish(there, farebox))
    assert [each for each in done.found if each.verdict == "error" and "500" in each.says]
    [key] = await farebox.accounts.list_keys()
    assert key.revoked_at is not None


async def test_a_rotation_that_open_webui_does_not_take_leaves_the_key_it_had(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    await connect(settings, wish(there, farebox))
    there.broken["/openai/config/update"] = 500
    await connect(settings, wish(there, farebox, new_key=True))
    old, new = await farebox.accounts.list_keys()
    assert (old.expires_at, old.revoked_at) == (None, None) and new.revoked_at is not None


async def test_a_dry_run_changes_nothing_on_either_side(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    done = await connect(settings, wish(there, farebox, dry_run=True, webhook=True))
    assert len(done.changes) == 4, done.changes
    assert there.written() == [] and await farebox.accounts.list_keys() == []


async def test_the_operators_own_settings_of_the_connection_stay(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    await connect(settings, wish(there, farebox))
    config = there.connections["OPENAI_API_CONFIGS"]["1"]
    config |= {"prefix_id": "fb", "tags": [{"name": "metered"}], "headers": {"X-Site": "1", "x-openwebui-task": "none"}}
    done = await connect(settings, wish(there, farebox))
    assert done.changes == ["the connection names the task, the chat and the answer of each call"]
    after = there.connections["OPENAI_API_CONFIGS"]["1"]
    assert (after["prefix_id"], after["tags"]) == ("fb", [{"name": "metered"}])
    assert after["headers"] == {"X-Site": "1", **HEADERS}


async def test_a_connection_that_farebox_moved_away_from_is_found_by_its_key(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.secret = SECRET
    await connect(settings, wish(there, farebox))
    there.connections["OPENAI_API_BASE_URLS"][1] = "http://farebox.old/v1"
    done = await connect(settings, wish(there, farebox))
    assert done.changes == [f"the connection to http://farebox.old/v1 leads to {farebox.url}/v1"]
    assert len(await farebox.accounts.list_keys()) == 1


async def test_a_webhook_is_made_once(settings: Settings, farebox: Farebox, there: FakeOpenWebUI) -> None:
    for _ in range(2):
        await connect(settings, wish(there, farebox, webhook=True))
    [webhook] = there.webhooks
    assert webhook["url"].startswith(f"{farebox.url}/hooks/openwebui/")
    assert {"user.created", "user.deleted", "group.*"} <= set(webhook["events"])
    assert not {"*", "user.*", "model.*"} & set(webhook["events"])


async def test_users_that_are_not_forwarded_are_told_with_lines_to_paste(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.forwards = False
    done = await connect(settings, wish(there, farebox))
    assert said(done, "users").startswith("error: do not arrive") and "ENABLE_FORWARD" in said(done, "users")
    assert done.environment.openwebui[0] == "ENABLE_FORWARD_USER_INFO_HEADERS=true"
    assert SECRET not in repr(done)


async def test_an_open_webui_that_is_away_is_one_sentence(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    done = await connect(settings, wish(there, farebox, url="http://127.0.0.1:9"))
    [found] = done.found
    assert found.verdict == "error" and "cannot be reached" in found.says
    assert await farebox.accounts.list_keys() == []


async def test_a_wrong_admin_key_is_one_sentence_and_makes_no_key(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    done = await connect(settings, wish(there, farebox, admin_key="sk-wrong"))
    assert said(done, "users").startswith("note")
    assert [each.says for each in done.found if each.verdict == "error" and "refuses the admin key" in each.says]
    assert await farebox.accounts.list_keys() == []


async def test_without_an_address_it_says_what_is_missing(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    with pytest.raises(DeskError, match="--url"):
        await connect(settings, wish(there, farebox, url=""))


async def test_what_is_found_besides_is_told_at_once(
    settings: Settings, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.direct = True
    there.connections["OPENAI_API_KEYS"] = ["sk-of-another"]
    there.shown = [entry("small", 1)]
    done = await connect(settings, wish(there, farebox))
    found = {each.subject: each.verdict for each in done.found}
    assert (found["ollama"], found["direct connections"], found["embeddings"]) == ("warning", "note", "warning")
    assert (found["other connections"], found["model access"]) == ("warning", "warning")
    assert "BYPASS_MODEL_ACCESS_CONTROL=true" in done.environment.openwebui

"""`farebox connect openwebui` and `farebox sync openwebui`, word by word."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farebox.cli import app
from openwebui.connection import connections_of
from tests.backend import Backend
from tests.house import Farebox
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI, entry
from tests.process import environment

Run = Callable[..., Coroutine[None, None, tuple[int, str]]]


@pytest.fixture
async def there() -> AsyncIterator[FakeOpenWebUI]:
    async with FakeOpenWebUI().running() as running:
        yield running


@pytest.fixture
def run(data_dir: Path, database_url: str, redis_url: str, backend: Backend, there: FakeOpenWebUI) -> Run:
    """Runs a command in a thread, for it brings its own event loop: exit code, and what it printed on either stream."""
    ours = environment(data_dir, database_url, redis_url, backend.url)
    env: dict[str, str | None] = {name: value for name, value in ours.items() if name.startswith("FAREBOX_")}
    env |= {"FAREBOX_OPENWEBUI__URL": there.url, "FAREBOX_OPENWEBUI__ADMIN_KEY": ADMIN_KEY}

    async def run(*words: str, **more: str | None) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, list(words), env={**env, **more})
        return done.exit_code, done.output

    return run


async def test_connecting_says_what_it_does_and_hides_the_keys(
    run: Run, farebox: Farebox, there: FakeOpenWebUI
) -> None:
    there.shown = [entry("small", 1)]
    words = ("connect", "openwebui", "--farebox-url", farebox.url, "--plain-headers")
    code, tried = await run(*words, "--dry-run")
    assert code == 0 and "would be a connection to" in tried and there.written() == []
    code, done = await run(*words)
    assert code == 0, done
    assert "done     a connection to" in done and "arrive unsigned" in done and "things looked at" in done
    assert "FAREBOX_OPENWEBUI__JWT_SECRET=" in done
    key = connections_of(there.connections)[1].key
    assert key not in done and ADMIN_KEY not in done
    code, again = await run(*words)
    assert code == 0 and again.startswith("same     nothing to change")


async def test_connecting_for_machines(run: Run, farebox: Farebox, there: FakeOpenWebUI) -> None:
    there.forwards = False
    code, printed = await run("connect", "openwebui", "--farebox-url", farebox.url, "--json")
    told = json.loads(printed)
    assert code == 1 and told["verdict"] == "error" and len(told["changes"]) == 3
    assert "ENABLE_FORWARD_USER_INFO_HEADERS=true" in told["environment"]["openwebui"]


async def test_connecting_to_nobody_is_a_sentence(run: Run, farebox: Farebox) -> None:
    code, printed = await run("connect", "openwebui", FAREBOX_OPENWEBUI__URL=None, FAREBOX_OPENWEBUI__ADMIN_KEY=None)
    assert code == 1 and printed.startswith("farebox: name the Open WebUI with --url")


async def test_a_sync_is_tried_made_and_told(run: Run, farebox: Farebox, there: FakeOpenWebUI) -> None:
    there.add("Grace")
    code, tried = await run("sync", "openwebui", "--dry-run")
    assert code == 0 and "2 changes would be made; there are 2 users and 0 groups" in tried
    code, done = await run("sync", "openwebui", "--json")
    assert code == 0 and json.loads(done)["outcome"] == "done"
    there.users = there.users[:1]
    code, gone = await run("sync", "openwebui")
    assert code == 0 and "grace@example.org is suspended: deleted there" in gone
    assert "note: no connection there leads to Farebox" in gone


async def test_a_sync_that_comes_to_nothing_fails(run: Run, farebox: Farebox, there: FakeOpenWebUI) -> None:
    there.broken["/api/v1/groups/"] = 500
    code, printed = await run("sync", "openwebui")
    assert code == 1 and "500" in printed
    code, printed = await run("sync", "openwebui", FAREBOX_OPENWEBUI__URL=None, FAREBOX_OPENWEBUI__ADMIN_KEY=None)
    assert code == 1 and "FAREBOX_OPENWEBUI__URL" in printed

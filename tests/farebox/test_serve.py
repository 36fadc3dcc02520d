"""Taking a house up and down: sockets, engines, secrets, signals."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from pathlib import Path
from types import CoroutineType

import pytest
from pydantic import SecretStr

from config.catalog import Declared
from farebox.serve import (
    AdminKey,
    StartError,
    admin_key_of,
    admin_sentence,
    allow_many_sockets,
    engines,
    forked,
    pepper_of,
    running,
    signals,
)
from gateway.downstream import Receive, Scope, Send
from tests import house
from tests.backend import Backend
from tests.house import ADMIN_KEY


async def test_engines_that_are_named_are_used_and_nothing_is_started(data_dir: Path) -> None:
    settings = house.settings(data_dir, "postgresql://named/db", "redis://named")
    async with engines(settings) as urls:
        assert (urls.database, urls.redis) == ("postgresql+asyncpg://named/db", "redis://named")
    assert list(data_dir.iterdir()) == []


async def test_an_engine_that_is_not_named_is_started_in_the_data_folder(data_dir: Path) -> None:
    settings = house.settings(data_dir, "postgresql://named/db", "")
    settings = settings.model_copy(update={"redis_url": None})
    async with engines(settings) as urls:
        assert urls.redis.startswith("unix://") and (data_dir / "valkey").is_dir()


def test_a_pepper_is_the_setting_or_made_once(data_dir: Path) -> None:
    settings = house.settings(data_dir, "postgresql://named/db", "redis://named")
    assert pepper_of(settings) == SecretStr(house.PEPPER)
    bare = settings.model_copy(update={"key_pepper": None})
    made = pepper_of(bare)
    assert len(made.get_secret_value()) >= 32 and pepper_of(bare) == made
    assert (data_dir / "key_pepper").stat().st_mode & 0o077 == 0


async def test_a_port_that_is_taken_is_said_before_anything_is_started(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = house.settings(data_dir, "postgresql://nowhere/db", "redis://nowhere", bind=bind)
        with pytest.raises(StartError, match=f"cannot listen on {bind}"):
            async with running(settings, Declared()):
                pass


async def test_metrics_may_have_a_port_of_their_own(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, metrics_bind="127.0.0.1:0") as farebox:
        assert (await farebox.get("/metrics")).status == 404
        async with farebox.http.get(farebox.run.metrics_url) as reply:
            assert reply.status == 200 and "farebox_streams_open" in await reply.text()
        assert not farebox.run.metrics_url.startswith(farebox.url)


async def test_the_admin_api_is_on_the_gateways_port_unless_it_has_its_own(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:
        assert farebox.run.admin_url == f"{farebox.url}/admin/api"
        assert (await farebox.admin.get("/admins")).status == 200
        assert (await farebox.get("/admin/apis")).status == (await farebox.get("/admin")).status == 404
    async with house.farebox(data_dir, database_url, redis_url, backend.url, admin_bind="127.0.0.1:0") as farebox:
        assert not farebox.run.admin_url.startswith(farebox.url)
        assert (await farebox.admin.get("/admins")).status == 200
        assert (await farebox.get("/admin/api/v1/admins")).status == 404
        here = farebox.run.admin_url.removesuffix("/admin/api")
        for path in ("/v1/models", "/metrics", "/healthz", "/v1/admins", "/"):
            async with farebox.http.get(f"{here}{path}", headers={"authorization": f"Bearer {ADMIN_KEY}"}) as reply:
                assert reply.status == 404, path


def test_an_admin_key_is_the_setting_or_made_once_for_an_embedded_database(data_dir: Path) -> None:
    named = house.settings(data_dir, "postgresql://named/db", "redis://named")
    assert admin_key_of(named) == (SecretStr(ADMIN_KEY), False)
    assert admin_key_of(named.model_copy(update={"admin_key": None})) == (None, False)
    embedded = named.model_copy(update={"admin_key": None, "database_url": None})
    made = admin_key_of(embedded)
    assert made.secret is not None and len(made.secret.get_secret_value()) >= 32 and made.made
    assert admin_key_of(embedded) == (made.secret, False)
    assert (data_dir / "admin_key").stat().st_mode & 0o077 == 0


def test_a_made_admin_key_is_said_once_and_a_missing_one_is_said_too(data_dir: Path) -> None:
    settings = house.settings(data_dir, "postgresql://named/db", "redis://named")
    secret = SecretStr("a-secret-nobody-knows")
    made = admin_sentence("http://here", AdminKey(secret, made=True), settings)
    assert "a-secret-nobody-knows" in made and str(data_dir / "admin_key") in made
    assert "a-secret" not in admin_sentence("http://here", AdminKey(secret), settings)
    assert "FAREBOX_ADMIN_KEY is not set" in admin_sentence("http://here", AdminKey(None), settings)
    for key in (AdminKey(secret), AdminKey(None)):
        assert "http://here/docs" in admin_sentence("http://here", key, settings)


def test_a_call_pays_one_comparison_for_what_is_beside_the_gateway() -> None:
    """The gateway's own coroutine is what the server awaits: there is no frame between them."""

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    async def admin(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    async def hook(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    app = forked(gateway, {"/admin/api/": admin, "/hooks/openwebui/": hook})
    for path, name in (
        ("/v1/chat/completions", "gateway"),
        ("/admin/api/v1/users", "admin"),
        ("/hooks/openwebui/secret", "hook"),
        ("/admin/apis", "gateway"),
    ):
        coroutine = app({"path": path}, None, None)  # type: ignore[arg-type]
        assert isinstance(coroutine, CoroutineType) and coroutine.__name__ == name
        coroutine.close()


async def test_the_end_of_the_block_closes_the_door(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:
        host, port = farebox.url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_to_end_and_a_second_one_to_hurry(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    term, hurry = asyncio.Event(), asyncio.Event()
    with signals(term, hurry):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(term.wait(), 30)
        assert not hurry.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(hurry.wait(), 30)
    signal.signal(number, before)


def test_the_bound_on_open_files_is_raised_as_far_as_it_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        allow_many_sockets()
        most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

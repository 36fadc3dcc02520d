"""How users arrive, by the word of the gateway that judges them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from farebox.connect_probe import Arrival, arrival
from openwebui.client import open_webui
from tests import house
from tests.backend import Backend
from tests.house import Farebox
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI

SECRET = "a-secret-that-open-webui-and-farebox-share"


@pytest.fixture
async def there() -> AsyncIterator[FakeOpenWebUI]:
    async with FakeOpenWebUI().running() as running:
        yield running


@pytest.fixture
async def signed(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """A Farebox that insists on signed users."""
    told: dict[str, Any] = {"openwebui": {"jwt_secret": SECRET}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **told) as running:
        yield running


async def tried(there: FakeOpenWebUI, url: str, key: str, *, secret: bool = True) -> Arrival:
    async with open_webui(there.url, ADMIN_KEY) as client:
        return await arrival(client, f"{url}/v1", key, signed=secret)


async def test_signed_users_with_the_right_secret_arrive(signed: Farebox, there: FakeOpenWebUI) -> None:
    there.secret = SECRET
    seen = await tried(there, signed.url, await signed.service(plain_headers=False))
    assert (seen.arrive, seen.found.verdict) == (True, "ok") and "admin@example.org" in seen.found.says


@pytest.mark.parametrize(
    ("forwards", "secret", "why"),
    [
        (False, None, "ENABLE_FORWARD_USER_INFO_HEADERS"),
        (True, None, "FORWARD_USER_INFO_HEADER_JWT_SECRET"),
        (True, "another-secret-of-more-than-32-characters", "the secret there is not the one here"),
    ],
)
async def test_others_do_not_and_it_is_said_why(
    signed: Farebox, there: FakeOpenWebUI, forwards: bool, secret: str | None, why: str
) -> None:
    there.forwards, there.secret = forwards, secret
    seen = await tried(there, signed.url, await signed.service(plain_headers=False))
    assert (seen.arrive, seen.found.verdict) == (False, "error") and why in seen.found.says
    assert SECRET not in seen.found.says


async def test_unsigned_users_that_are_let_in_are_a_warning(farebox: Farebox, there: FakeOpenWebUI) -> None:
    seen = await tried(there, farebox.url, await farebox.service(), secret=False)
    assert (seen.arrive, seen.found.verdict) == (False, "warning") and "unsigned" in seen.found.says


async def test_signed_users_where_farebox_has_no_secret(farebox: Farebox, there: FakeOpenWebUI) -> None:
    there.secret = SECRET
    seen = await tried(there, farebox.url, await farebox.service(), secret=False)
    assert seen.arrive is False and "FAREBOX_OPENWEBUI__JWT_SECRET" in seen.found.says


async def test_an_administrator_who_is_suspended_here_proves_as_much(signed: Farebox, there: FakeOpenWebUI) -> None:
    there.secret = SECRET
    admin = await signed.accounts.create_user(name="A", realm="open-webui", subject=there.users[0]["id"])
    await signed.accounts.set_status(admin.id, "suspended")
    seen = await tried(there, signed.url, await signed.service(plain_headers=False))
    assert (seen.arrive, seen.found.verdict) == (True, "note")


async def test_a_wrong_way_to_farebox_is_said(farebox: Farebox, there: FakeOpenWebUI) -> None:
    seen = await tried(there, "http://127.0.0.1:9", "k")
    assert (seen.arrive, seen.found.verdict) == (None, "error") and "cannot reach" in seen.found.says


async def test_something_else_that_answers_is_no_farebox(there: FakeOpenWebUI, backend: Backend) -> None:
    seen = await tried(there, f"{there.url}/api", "k")
    assert (seen.arrive, seen.found.verdict) == (None, "error")


async def test_an_open_webui_that_breaks_off_is_said(farebox: Farebox, there: FakeOpenWebUI) -> None:
    async with open_webui("http://127.0.0.1:9", ADMIN_KEY) as client:
        seen = await arrival(client, f"{farebox.url}/v1", "k", signed=True)
    assert seen.arrive is None and "cannot be reached" in seen.found.says

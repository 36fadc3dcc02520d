"""A running Farebox for the tests of the admin API, and clients in every role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import StreamingResponse

from admin_api.admin_accounts import Admin as Account
from admin_api.admin_accounts import AdminAccounts, AdminRole
from ledger.audit import Actor
from ledger.store_sql import make_engine
from tests import house
from tests.backend import Backend, chat
from tests.house import Admin, Answer, Farebox

PASSWORD = "correct horse battery"
BY = Actor("tester", "owner", "192.0.2.1")

MakeAccount = Callable[..., Awaitable[Account]]
Login = Callable[[str], Awaitable[Admin]]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's own database, for stores without a Farebox around them."""
    made = make_engine(database_url, size=16, command_timeout_s=60, lock_timeout_ms=30_000, name="test")
    yield made
    await made.dispose()


@pytest.fixture
def account(engine: AsyncEngine) -> MakeAccount:
    """`await account("ada", role="owner")`: an account whose password nobody knows."""

    async def make(name: str, role: AdminRole = "admin") -> Account:
        email = f"{name}@example.org"
        return await AdminAccounts(engine).create(email=email, name=name, role=role, password_hash="h", by=BY)

    return make


@pytest.fixture
def admin(farebox: Farebox) -> Admin:
    """A client with the admin key; `farebox` is the same running Farebox."""
    return farebox.admin


@pytest.fixture(scope="module")
async def module_farebox(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, redis_server_url: str
) -> AsyncIterator[Farebox]:
    """One running Farebox for all tests of a file, which must then keep to objects of their own."""
    data_dir: Path = tmp_path_factory.mktemp("data")
    async with (
        Backend(chat()).running() as backend,
        house.farebox(data_dir, module_database_url, redis_server_url, backend.url) as running,
    ):
        yield running


@pytest.fixture
def login(farebox: Farebox) -> Login:
    """`await login("support")`: an account of this role, logged in."""
    return lambda role: logged_in(farebox.admin, role)


async def logged_in(owner: Admin, role: str) -> Admin:
    """A client with the access token of a new account."""
    email = f"{role}-{id(object())}@example.org"
    await owner.made("/admins", {"email": email, "role": role, "password": PASSWORD})
    tokens = await owner.bearing(None).made("/auth/login", {"email": email, "password": PASSWORD})
    return owner.bearing(tokens["access_token"])


async def body_of(reply: StreamingResponse) -> bytes:
    """All a streamed reply would send."""
    parts = [chunk async for chunk in reply.body_iterator]
    return b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts)


@pytest.fixture(scope="module")
async def module_support(module_farebox: Farebox) -> Admin:
    """An account that may look, on ``module_farebox``."""
    return await logged_in(module_farebox.admin, "support")


def somebody(name: str) -> dict[str, str]:
    """A body that makes an account."""
    return {"email": f"{name}@example.org", "role": "support", "password": PASSWORD}


def problem(answer: Answer, status: int, code: str = "") -> dict[str, Any]:
    """The document of a refusal that has to be this one."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status and document["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    assert not code or document["type"] == f"urn:farebox:problem:{code}"
    return document

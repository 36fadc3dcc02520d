"""One running Farebox and one backend for all tests of a file, which keep to callers and names of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests import house
from tests.backend import Backend, chat
from tests.house import Farebox

_TIMEOUTS = {"connect_s": 1, "first_byte_s": 3, "idle_s": 3, "total_s": 20}


@pytest.fixture(scope="module")
async def backend() -> AsyncIterator[Backend]:
    async with Backend(chat()).running() as running:
        yield running


@pytest.fixture(scope="module")
async def farebox(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, redis_server_url: str, backend: Backend
) -> AsyncIterator[Farebox]:
    data_dir = tmp_path_factory.mktemp("data")
    async with house.farebox(
        data_dir, module_database_url, redis_server_url, backend.url, timeouts=_TIMEOUTS
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """The backend of a test has seen nothing, and answers in the usual way."""
    if "backend" in request.fixturenames or "farebox" in request.fixturenames:
        running: Backend = request.getfixturevalue("backend")
        running.requests.clear()
        running.answer = chat()
    yield

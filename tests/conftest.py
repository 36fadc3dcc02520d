"""Real engines for the tests, started once a session and only if a test asks; and no network but this machine's.

`FAREBOX_TEST_DATABASE_URL` (its user may create databases) and `FAREBOX_TEST_REDIS_URL` (its numbered database is
emptied again and again) put other servers in the place of the embedded ones.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from farebox.engines import Engines, stop_abandoned
from farebox.migrate import upgrade
from tests import house
from tests.backend import Backend, chat
from tests.house import Farebox

# How long an example takes says nothing on a machine that others use, too. A test has the profile that is loaded when
# its file is imported: this is loaded before all of them.
settings.register_profile("farebox", deadline=None)
settings.load_profile("farebox")

_PREFIX = "farebox-tests-"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 * 1024**3


def pytest_configure(config: pytest.Config) -> None:
    sys.addaudithook(_refuse_network)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process sets up the logs of the whole process; the next test finds its own."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def _refuse_network(event: str, args: tuple[object, ...]) -> None:
    """Only this interpreter's own sockets pass here: enough to notice a test that would leave the machine."""
    if event not in ("socket.connect", "socket.sendto"):
        return
    address = args[1]
    if isinstance(address, tuple) and not _is_loopback(str(address[0])):
        raise RuntimeError(f"A test tried to reach {address[0]}: tests use this machine only.")


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("localhost", "::1")


@pytest.fixture(scope="session")
def engines_dir() -> Iterator[Path]:
    """The folder of this session's engines; first, what killed sessions left running is stopped and removed."""
    home = _engines_home()
    for abandoned in home.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another session may be tidying too
            if abandoned.stat().st_uid == os.geteuid() and stop_abandoned(abandoned):
                _remove(abandoned)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    yield folder
    _remove(folder)


def _engines_home() -> Path:
    """In memory where there is room: thousands of databases come and go, and a disk that others write to is slow."""
    if os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        return _MEMORY
    return Path(tempfile.gettempdir())


def _remove(folder: Path) -> None:
    """Remove it, also while somebody else does: a file that is gone already is no reason to leave the rest."""
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Postgres server's URL (its maintenance database); most tests want `database_url`."""
    if given := os.environ.get("FAREBOX_TEST_DATABASE_URL"):
        yield given
        return
    with Engines.start(request.getfixturevalue("engines_dir"), postgres=True, redis=False, durable=False) as engines:
        yield engines.database_url


@pytest.fixture(scope="session")
def redis_server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Redis server's URL; most tests want `redis_url`."""
    if given := os.environ.get("FAREBOX_TEST_REDIS_URL"):
        yield given
        return
    with Engines.start(request.getfixturevalue("engines_dir"), postgres=False, redis=True) as engines:
        yield engines.redis_url


@pytest.fixture(scope="session")
async def server(server_url: str) -> AsyncIterator[AsyncEngine]:
    """The server itself, for who makes and drops databases."""
    engine = create_async_engine(server_url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)  # tests restart it
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
async def template_database(server: AsyncEngine) -> AsyncIterator[str]:
    """The name of a migrated database that every test's own one is copied from."""
    name = f"farebox_template_{uuid.uuid4().hex[:12]}"
    await _administer(server, f"CREATE DATABASE {name}")
    try:
        await upgrade(_with_database(server, name))
        yield name
    finally:
        await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(server: AsyncEngine, template_database: str) -> AsyncIterator[str]:
    """A fresh, migrated database for this test alone, as `postgresql+asyncpg://…`."""
    async for url in _database(server, template_database):
        yield url


@pytest.fixture(scope="module")
async def module_database_url(server: AsyncEngine, template_database: str) -> AsyncIterator[str]:
    """A fresh, migrated database for all tests of a file, which must then keep to wallets of their own."""
    async for url in _database(server, template_database):
        yield url


@pytest.fixture
async def empty_database_url(server: AsyncEngine) -> AsyncIterator[str]:
    """A fresh database without any schema."""
    async for url in _database(server, "template0"):
        yield url


async def _database(server: AsyncEngine, template: str) -> AsyncIterator[str]:
    name = f"farebox_test_{uuid.uuid4().hex[:12]}"
    # A copy of the files is made in half the time of a logged one.
    await _administer(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield _with_database(server, name)
    finally:
        await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _administer(server: AsyncEngine, statement: str) -> None:
    async with server.connect() as connection:
        await connection.execute(text(statement))


def _with_database(server: AsyncEngine, name: str) -> str:
    return server.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def redis_url(redis_server_url: str) -> Iterator[str]:
    """An emptied Redis database for this test."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    yield redis_server_url


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty folder to stand for FAREBOX_DATA_DIR."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend on a real socket that answers chats; a test gives it other scripts with `then` or `answer`."""
    async with Backend(chat()).running() as backend:
        yield backend


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """A whole gateway in front of `backend`, with the usual catalogue of `tests/house.py`."""
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as running:
        yield running

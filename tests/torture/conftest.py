"""Engines that can be stopped and keep what they committed, and the seed of a run."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.torture.engines import Postgres
from tests.torture.town import Town, TownOpener, town

_VARIABLE = "FAREBOX_TORTURE_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture-seed", type=int, help=f"what everything is drawn from (or {_VARIABLE}; else any)")


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("--torture-seed", None)
    if given is None:
        given = int(os.environ.get(_VARIABLE) or random.randrange(10**6))
    config.stash[_SEED] = given


def pytest_report_header(config: pytest.Config) -> str:
    return f"torture seed: {config.stash[_SEED]}"


_SEED = pytest.StashKey[int]()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What everything in a case is drawn from."""
    drawn = request.config.stash[_SEED]
    print(f"\nseed {drawn}")
    return drawn


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of this session's own, as durable as in production."""
    with tempfile.TemporaryDirectory(prefix="farebox-torture-") as folder, Postgres.running(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def server_url(postgres: Postgres) -> str:
    """In the place of the other tests' server."""
    return postgres.url


@pytest.fixture
def open_town(tmp_path: Path, database_url: str, redis_url: str) -> TownOpener:
    """Open a town on this test's own database; the words are those of `town`."""

    def opened(**more: Any) -> AbstractAsyncContextManager[Town]:
        return town(tmp_path, database_url, redis_url, **more)

    return opened

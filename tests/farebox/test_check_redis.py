"""A real Redis under the doctor's eyes, with one thing after another made wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from config.settings import Settings
from farebox.check_redis import look_at_redis
from farebox.findings import Found
from tests import house


@pytest.fixture
def settings(data_dir: Path, redis_url: str) -> Settings:
    return house.settings(data_dir, "postgresql://u@127.0.0.1:1/d", redis_url)


async def looked(url: str, settings: Settings) -> dict[str, Found]:
    return {found.subject: found for found in await look_at_redis(url, settings)}


@contextmanager
def configured(url: str, **values: Any) -> Iterator[None]:
    """The server with other settings for a while."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        before = {name: client.config_get(name)[name] for name in values}
        for name, value in values.items():
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


async def test_a_good_redis_is_good(redis_url: str, settings: Settings) -> None:
    found = await looked(redis_url, settings)
    assert {each.verdict for each in found.values()} <= {"ok", "note"}
    assert found["reachable"].says.startswith(("Valkey ", "Redis "))
    assert {"maxmemory-policy", "persistence", "cluster", "clock"} <= set(found)


async def test_a_redis_that_is_not_there_is_one_error(settings: Settings) -> None:
    (found,) = await look_at_redis("redis://127.0.0.1:1", settings)
    assert (found.subject, found.verdict) == ("reachable", "error")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_forgets_counters_is_an_error(redis_url: str, settings: Settings, policy: str) -> None:
    with configured(redis_url, **{"maxmemory-policy": policy}):
        found = (await looked(redis_url, settings))["maxmemory-policy"]
    assert found.verdict == "error" and policy in found.says


async def test_a_redis_that_is_nearly_full_is_told(redis_url: str, settings: Settings) -> None:
    with redis.Redis.from_url(redis_url) as client:
        used = client.info("memory")["used_memory"]
    with configured(redis_url, maxmemory=int(used * 1.02)):
        found = await looked(redis_url, settings)
    assert found["memory"].verdict == "warning"


async def test_persistence_is_noted_as_needless(redis_url: str, settings: Settings) -> None:
    with configured(redis_url, appendonly="yes"):
        found = (await looked(redis_url, settings))["persistence"]
    assert (found.verdict, found.says.split(";")[0]) == ("note", "appends to disk")


async def test_a_single_server_that_is_set_as_a_cluster_is_an_error(redis_url: str, data_dir: Path) -> None:
    wrong = house.settings(data_dir, "postgresql://u@127.0.0.1:1/d", redis_url, redis={"cluster": True})
    found = (await looked(redis_url, wrong))["cluster"]
    assert found.verdict == "error" and "single server" in found.says

"""Things that are said once: by all replicas together, and by each alone while Redis is away."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from policies.buckets_redis import Client, connect
from policies.told_redis import ToldRedis
from tests.house import until


@pytest.fixture
async def client(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """Of a Redis that is here, however long it takes to be heard."""
    monkeypatch.setattr("policies.told_redis._PATIENCE_S", 30)
    client = connect(redis_url, connect_timeout=30, timeout=30)
    yield client
    await client.aclose()


async def test_each_thing_is_said_once_whoever_says_it(client: Client) -> None:
    one, other = ToldRedis(client), ToldRedis(client)
    assert await one.first("a", 60) and not await one.first("a", 60)
    assert not await other.first("a", 60)
    assert await other.first("b", 60) and not await one.first("b", 60)


async def test_what_was_forgotten_is_said_again_by_anybody(client: Client) -> None:
    one, other, third = ToldRedis(client), ToldRedis(client), ToldRedis(client)
    assert await one.first("a", 60)
    await third.forget("a")  # it has not said it, and so does not ask
    assert not await other.first("a", 60)
    await one.forget("a")
    assert await one.first("a", 60)


async def test_what_was_said_may_be_said_again_in_time(client: Client) -> None:
    assert await ToldRedis(client).first("a", 60) and not await ToldRedis(client).first("a", 60)
    assert await client.keys("fb:told:*") == [b"fb:told:a"] and await client.ttl("fb:told:a") > 0
    assert await ToldRedis(client).first("b", 0)
    await until(lambda: ToldRedis(client).first("b", 60))


async def test_while_redis_is_away_each_process_says_it_once() -> None:
    client = connect("redis://127.0.0.1:1/0")
    told = ToldRedis(client)
    assert await told.first("a", 60) and not await told.first("a", 60)
    await told.forget("a")
    assert await told.first("a", 60)
    await client.aclose()


async def test_what_is_remembered_is_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.told_redis._SIZE", 2)
    told = ToldRedis(client)
    for name in "abc":
        assert await told.first(name, 60)
    assert list(told._known) == ["b", "c"]

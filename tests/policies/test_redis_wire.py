"""One connection and its batches, against a real Redis and against one that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from redis.exceptions import BusyLoadingError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from policies.buckets_redis import connect
from policies.redis_wire import Entry, Wire

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


class One:
    """A command and what came of it."""

    def __init__(self, *words: str) -> None:
        self.packed: bytes = pack_command(words)  # type: ignore[arg-type] # their stub: 1-tuples
        self.replies: list[Any] = []

    def resolve(self, reply: Any) -> None:
        self.replies.append(reply)


class Ends:
    """What a wire tells of itself."""

    def __init__(self) -> None:
        self.landed = asyncio.Event()
        self.lost = asyncio.Event()
        self.flying: Sequence[Entry] = ()
        self.why: Exception | None = None

    def lose(self, flying: Sequence[Entry], why: Exception) -> None:
        self.flying, self.why = flying, why
        self.lost.set()


@asynccontextmanager
async def wired(client: Redis) -> AsyncIterator[tuple[Wire, Ends]]:
    pool, ends = client.connection_pool, Ends()
    connection = await pool.get_connection()  # type: ignore[no-untyped-call] # theirs
    try:
        yield Wire(connection, ends.landed.set, ends.lose), ends
    finally:
        await connection.disconnect(nowait=True)
        await pool.release(connection)
        await client.aclose()


class _Plain(Connection):
    """Says nothing of itself when it connects."""

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        self._parser.on_connect(self)  # type: ignore[no-untyped-call] # theirs


@asynccontextmanager
async def misbehaving(answer: Answer, patience_s: float = 30.0) -> AsyncIterator[tuple[Wire, Ends]]:
    """A wire to a server that does with a connection what it is told."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = connect(f"redis://127.0.0.1:{port}", timeout=patience_s)
    assert isinstance(client, Redis)
    client.connection_pool.connection_class = _Plain
    async with wired(client) as (wire, ends):
        yield wire, ends
    server.close()


def saying(reply: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(reply)
        await reader.read()
        writer.close()

    return answer


async def heard(event: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await event.wait()


async def test_a_batch_is_answered_in_order_and_lands_once(redis_url: str) -> None:
    client = connect(redis_url, connect_timeout=30, timeout=30)
    assert isinstance(client, Redis)
    async with wired(client) as (wire, ends):
        batch = [One("SET", "k", "v"), One("HGET", "k", "f"), One("GET", "k"), One("ECHO", "x" * 100_000)]
        wire.send(list(batch))
        await heard(ends.landed)
        replies = [one.replies for one in batch]
        assert [replies[0], replies[2], replies[3]] == [[b"OK"], [b"v"], [b"x" * 100_000]]
        assert isinstance(replies[1][0], ResponseError)
        assert not wire.closed


async def test_what_nobody_has_asked_for_is_passed_over() -> None:
    async with misbehaving(saying(b">2\r\n+moving\r\n:1\r\n+PONG\r\n")) as (wire, ends):
        ping = One("PING")
        wire.send([ping])
        await heard(ends.landed)
        assert ping.replies == [b"PONG"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", BusyLoadingError),
        (b"what?\r\n", InvalidResponse),
        (b"+PONG\r\n+PONG\r\n+PONG\r\n", InvalidResponse),
    ],
)
async def test_a_redis_that_cannot_be_asked_loses_the_wire(said: bytes, why: type[Exception]) -> None:
    async with misbehaving(saying(said)) as (wire, ends):
        ping = One("PING")
        wire.send([ping])
        await heard(ends.lost)
        assert isinstance(ends.why, why) and wire.closed
        assert len(ping.replies) + len(ends.flying) == 1, "told here or there, and once"


async def test_a_redis_that_hangs_up_loses_the_wire_with_what_it_owes() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await writer.drain()
        writer.close()

    async with misbehaving(once) as (wire, ends):
        first, second = One("PING"), One("PING")
        wire.send([first, second])
        await heard(ends.lost)
        assert first.replies == [b"PONG"] and list(ends.flying) == [second]
        assert isinstance(ends.why, RedisConnectionError)


async def test_a_batch_has_one_bound_and_the_next_one_its_own() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"PING\r\n")
            await asyncio.sleep(1.5)
            writer.write(b"+PONG\r\n")
        await reader.read()
        writer.close()

    async with misbehaving(slow, patience_s=4) as (wire, ends):
        for _ in range(3):
            ends.landed.clear()
            wire.send([One("PING")])
            await heard(ends.landed)
        assert not ends.lost.is_set()
        last = One("PING")
        wire.send([last])
        await heard(ends.lost)
        assert isinstance(ends.why, TimeoutError) and list(ends.flying) == [last]


async def test_a_wire_that_is_closed_here_owes_nothing(redis_url: str) -> None:
    client = connect(redis_url, connect_timeout=30, timeout=30)
    assert isinstance(client, Redis)
    async with wired(client) as (wire, ends):
        wire.close()
        wire.close()
        assert wire.closed and ends.flying == [] and ends.lost.is_set()

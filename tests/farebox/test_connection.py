"""Connections whose other side says nothing, says it slowly, or says too much of it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from farebox import connection
from tests.backend import Backend, Gate, Pause, chat, stream
from tests.house import Caller, Farebox
from tests.security.raw import closes, connected, exchange, heard, request, statuses, whole
from tests.streams import until

SHORT_S = 0.4
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: f\r\n"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HEAD_S", SHORT_S)


async def dribbled(writer: asyncio.StreamWriter, byte: bytes = b"a") -> None:
    """One byte now and then, for ever."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(byte)
            await writer.drain()
            await asyncio.sleep(SHORT_S / 8)


async def closes_while_dribbling(farebox: Farebox, first: bytes, replies: int = 0) -> bool:
    reader, writer = await connected(farebox)
    writer.write(first)
    dribbling = asyncio.create_task(dribbled(writer))
    try:
        if replies:
            await reader.readuntil(b"\r\n\r\n")
        return await closes(reader)
    finally:
        dribbling.cancel()
        writer.transport.abort()


@pytest.mark.usefixtures("impatient")
async def test_a_connection_that_says_nothing_is_closed(farebox: Farebox) -> None:
    reader, writer = await connected(farebox)
    assert await closes(reader)
    writer.transport.abort()


@pytest.mark.usefixtures("impatient")
async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(farebox: Farebox) -> None:
    assert await closes_while_dribbling(farebox, HEAD + b"x-note: ")


@pytest.mark.usefixtures("impatient")
async def test_the_second_head_of_a_connection_is_waited_for_no_longer(farebox: Farebox) -> None:
    ada = await farebox.caller()
    assert await closes_while_dribbling(farebox, whole(ada) + HEAD + b"x-note: ", replies=1)


@pytest.mark.usefixtures("impatient")
async def test_the_rest_of_a_request_that_was_refused_is_not_waited_for(farebox: Farebox) -> None:
    assert await closes_while_dribbling(farebox, HEAD + b"content-length: 100000\r\n\r\n", replies=1)


@pytest.mark.usefixtures("impatient")
async def test_a_call_takes_its_time_and_its_connection_serves_the_next(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    backend.answer = lambda seen: [Pause(2 * SHORT_S), *chat()(seen)]
    reader, writer = await connected(farebox)
    writer.write(whole(ada))
    assert statuses(await heard(reader, 4 * SHORT_S)) == [200]
    writer.write(whole(ada))  # it was idle for longer than a head may take
    assert statuses(await heard(reader, 4 * SHORT_S)) == [200]
    writer.transport.abort()


@pytest.mark.parametrize(
    "endless",
    [
        HEAD + b"x-note: " + b"a" * 400_000,
        HEAD + b"x-note: a\r\n" * 40_000,
        b"POST /" + b"a" * 400_000,
        b"A" * 400_000,
    ],
    ids=["a value", "many headers", "a path", "a method"],
)
async def test_an_endless_head_is_refused(farebox: Farebox, backend: Backend, endless: bytes) -> None:
    assert statuses(await exchange(farebox, endless)) in ([431], [400])
    assert backend.requests == []


@pytest.mark.parametrize("endless", [b"0\r\nx-note: " + b"a" * 400_000, b"5;" + b"a" * 400_000], ids=["field", "size"])
async def test_an_endless_end_or_size_of_a_chunk_is_refused(farebox: Farebox, endless: bytes) -> None:
    ada = await farebox.caller()
    assert statuses(await exchange(farebox, request(ada, endless, b"transfer-encoding: chunked"))) in ([431], [400])


async def test_what_is_no_http_is_refused_and_its_connection_closed(farebox: Farebox) -> None:
    assert statuses(await exchange(farebox, b"\0\0 this is no HTTP\r\n\r\n")) == [400]


async def test_who_wants_another_protocol_is_answered_in_this_one(farebox: Farebox) -> None:
    ada = await farebox.caller()
    upgrade = b"connection: upgrade\r\nupgrade: websocket"
    head = b"GET /v1/models HTTP/1.1\r\nhost: f\r\nauthorization: Bearer %b\r\n%b\r\n\r\n"
    assert statuses(await exchange(farebox, head % (ada.key.encode(), upgrade))) == [200]


async def test_a_large_head_within_the_bound_is_heard(farebox: Farebox) -> None:
    ada = await farebox.caller()
    assert statuses(await exchange(farebox, whole(ada, b"hello", b"x-note: " + b"a" * 50_000))) == [200]


async def _in_the_middle(
    farebox: Farebox, backend: Backend, ada: Caller
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A connection on which a stream has begun and does not go on, and what came of it."""
    backend.answer = stream([b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n', Gate(asyncio.Event())])
    reader, writer = await connected(farebox)
    body = b'{"model":"small","stream":true,"messages":[{"role":"user","content":"hello"}]}'
    writer.write(request(ada, body, b"content-length: %d" % len(body)))
    return reader, writer, await reader.readuntil(b'"hi"')


@pytest.mark.parametrize("waiting", [0, 1])
async def test_what_is_no_http_in_the_middle_of_a_reply_ends_it_and_is_not_answered(
    farebox: Farebox, backend: Backend, waiting: int
) -> None:
    """Also where whole requests wait between the two."""
    ada = await farebox.caller()
    reader, writer, got = await _in_the_middle(farebox, backend, ada)
    writer.write(whole(ada) * waiting + b"\0\0\0 this is no HTTP\r\n\r\n")
    rest = await heard(reader, 2.0)
    assert statuses(got + rest) == [200]
    writer.transport.abort()
    await until(lambda: not farebox.run.gateway.running)
    (charge,) = await farebox.charges()
    assert charge["outcome"] == "caller_left"


async def test_who_is_closed_upon_before_being_known_has_left_also_where_another_request_waits(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller()
    assert statuses(await exchange(farebox, whole(ada) * 2 + b"\0\0\0 this is no HTTP\r\n\r\n")) == [400]
    assert statuses(await exchange(farebox, whole(ada))) == [200]
    assert len(await farebox.charges()) == len(backend.requests) == 1


async def test_that_a_caller_leaves_is_seen_also_where_its_next_request_waits(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller()
    _, writer, _ = await _in_the_middle(farebox, backend, ada)
    writer.write(whole(ada))
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await until(lambda: not farebox.run.gateway.running)
    (charge,) = await farebox.charges()
    assert charge["outcome"] == "caller_left" and len(backend.requests) == 1


async def test_of_many_requests_at_once_only_so_many_are_read(farebox: Farebox, backend: Backend) -> None:
    ada, gate = await farebox.caller(), asyncio.Event()
    backend.answer = lambda seen: [Gate(gate), *chat()(seen)]
    reader, writer = await connected(farebox)
    writer.write(whole(ada))
    await backend.arrived()
    for _ in range(200):
        writer.write(whole(ada, b"a" * 50_000))
    await asyncio.sleep(0.5)
    assert writer.transport.get_write_buffer_size() > 1_000_000
    gate.set()
    async with asyncio.timeout(60):
        got = b""
        while len(statuses(got)) < 201:
            got += await reader.read(65_536)
    assert set(statuses(got)) == {200}
    writer.transport.abort()

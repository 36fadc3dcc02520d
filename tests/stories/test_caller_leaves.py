"""The caller leaves: the backend is let go at once, what was used is charged, everything else is free again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from farebox.connection import Connection
from gateway import proxy
from tests import house
from tests.backend import Backend, Gate, Seen, Stall, Step, chat, head
from tests.backend import stream as script
from tests.house import Caller, Farebox
from tests.streams import DONE, HELLO_TOKENS, SMALL, delta, stream, tokens, until, usage

pytestmark = pytest.mark.usefixtures("telling")
_DRAINING = """
[[models]]
id = "drained"
upstream = "main"
on_disconnect = "drain"
prices = { input = "0.15", output = "0.60" }

[[tiers]]
name = "single"
concurrency = 1
"""


@pytest.fixture(params=["own server", "plain ASGI"])
def telling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in which a server may tell that a caller has left."""
    if request.param == "plain ASGI":
        monkeypatch.setattr(proxy, "caller_of", lambda scope: None)


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """With a model whose answers are read to their end, and a tier of one call at a time."""
    bounds: dict[str, Any] = {"limits": {"drain_stream_s": 4, "drained_streams_max": 2}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_DRAINING, **bounds) as running:
        yield running


async def _gone(seen: Seen, since: float, what: str) -> None:
    """Long before any patience with the backend ends."""
    await asyncio.wait_for(seen.left.wait(), 30)
    assert seen.left_at is not None
    print(f"{what}: the backend was let go after {(seen.left_at - since) * 1000:.1f} ms")


async def _left_nothing_behind(farebox: Farebox, ada: Caller, backend: Backend) -> None:
    """Slot and hold are free: the tier allows one call at a time."""
    assert not await farebox.broken()
    backend.answer = chat()
    assert (await farebox.chat(ada)).status == 200


@pytest.mark.parametrize("streamed", [True, False])
async def test_while_waiting_for_the_first_byte(streamed: bool, farebox: Farebox, backend: Backend) -> None:
    backend.answer = [Stall()]
    ada = await farebox.caller(tier="single")
    call = asyncio.create_task(farebox.chat(ada, stream=streamed))
    seen = await backend.arrived()
    await asyncio.sleep(0.05)
    since = asyncio.get_running_loop().time()
    call.cancel()
    await _gone(seen, since, f"before the first byte, streamed {streamed}")
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "counted")
    assert charge["amount"] == HELLO_TOKENS * SMALL["input"]
    await _left_nothing_behind(farebox, ada, backend)


async def test_in_the_middle_of_the_answer(farebox: Farebox, backend: Backend) -> None:
    backend.answer = [*script([delta("The quick "), delta("brown fox")], end=False), Stall()]
    ada = await farebox.caller(tier="single")
    async with stream(farebox, ada) as reply:
        while b"fox" not in await reply.content.readany():
            pass
        since = asyncio.get_running_loop().time()
    await _gone(backend.requests[0], since, "in the middle")
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "counted")
    assert charge["amount"] == HELLO_TOKENS * SMALL["input"] + tokens("The quick brown fox") * SMALL["output"]
    await _left_nothing_behind(farebox, ada, backend)


async def test_in_the_middle_of_an_answer_that_is_not_streamed(farebox: Farebox, backend: Backend) -> None:
    backend.answer = [head(200, (("content-type", "application/json"), ("content-length", "999"))), b'{"choi', Stall()]
    ada = await farebox.caller(tier="single")
    call = asyncio.create_task(farebox.chat(ada))
    seen = await backend.arrived()
    await until(lambda: seen.sent > 50)
    await asyncio.sleep(0.05)
    since = asyncio.get_running_loop().time()
    call.cancel()
    await _gone(seen, since, "in the middle, not streamed")
    assert (await farebox.charge())["amount"] == HELLO_TOKENS * SMALL["input"]
    await _left_nothing_behind(farebox, ada, backend)


async def test_after_the_last_chunk_but_before_the_end(farebox: Farebox, backend: Backend) -> None:
    backend.answer = [*script([delta("fox", "stop"), usage(20, 5)], end=False), Stall()]
    ada = await farebox.caller(tier="single")
    async with stream(farebox, ada, stream_options={"include_usage": True}) as reply:
        while b"usage" not in await reply.content.readany():
            pass
        since = asyncio.get_running_loop().time()
    await _gone(backend.requests[0], since, "at the last chunk")
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "reported")
    assert charge["amount"] == 20 * SMALL["input"] + 5 * SMALL["output"]
    await _left_nothing_behind(farebox, ada, backend)


async def test_before_its_own_request_is_whole(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(tier="single")
    address = urlsplit(farebox.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ada.key}\r\n"
        'content-length: 500\r\n\r\n{"model": "small", '.encode()
    )
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.05)
    assert backend.requests == []
    assert await farebox.rows("SELECT 1 FROM holds") == []
    await _left_nothing_behind(farebox, ada, backend)


async def test_a_model_may_be_read_to_its_end_and_is_charged_whole(farebox: Farebox, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.answer = script([delta("one"), Gate(gate), delta("two", "stop"), usage(20, 5), DONE])
    ada = await farebox.caller(tier="single")
    async with stream(farebox, ada, model="drained") as reply:
        await reply.content.readany()
    await asyncio.sleep(0.05)
    assert not backend.requests[0].left.is_set()
    gate.set()
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "reported")
    assert charge["amount"] == 20 * SMALL["input"] + 5 * SMALL["output"]
    await _left_nothing_behind(farebox, ada, backend)


async def test_reading_to_the_end_has_a_bound_in_time_and_in_number(farebox: Farebox, backend: Backend) -> None:
    backend.answer = [*script([delta("one")], end=False), Stall()]
    ada = await farebox.caller()
    for deaf in (1, 2, 2):
        async with stream(farebox, ada, model="drained") as reply:
            await reply.content.readany()
        await until(lambda deaf=deaf: farebox.run.gateway._pulse.deaf == deaf)  # type: ignore[misc]
    first, second, third = backend.requests
    await asyncio.wait_for(third.left.wait(), 30)
    assert not first.left.is_set() and not second.left.is_set()
    await asyncio.wait_for(asyncio.gather(first.left.wait(), second.left.wait()), 30)
    assert {charge["outcome"] for charge in await farebox.charges()} == {"caller_left"}
    assert not await farebox.broken()


async def test_a_call_the_server_cancels_reaches_its_settlement(
    farebox: Farebox, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Connection] = []
    begin = Connection.connection_made

    def begun(self: Connection, transport: asyncio.Transport) -> None:
        made.append(self)
        begin(self, transport)

    monkeypatch.setattr(Connection, "connection_made", begun)
    backend.answer = [*script([delta("one")], end=False), Stall()]
    ada = await farebox.caller(tier="single")
    with pytest.raises(aiohttp.ClientPayloadError):
        async with stream(farebox, ada) as reply:
            await reply.content.readany()
            (running,) = made[-1].tasks
            running.cancel("the server waited long enough")
            await reply.read()
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "counted")
    await _left_nothing_behind(farebox, ada, backend)


async def test_fifty_who_leave_at_once_leave_nothing_behind(farebox: Farebox, backend: Backend) -> None:
    steps: list[Step] = [*script([delta("one")], end=False), Stall()]
    backend.answer = steps
    ada = await farebox.caller()
    calls = [asyncio.create_task(farebox.chat(ada, stream=True)) for _ in range(50)]
    await backend.arrived(50)
    for call in calls:
        call.cancel()
    assert len(await farebox.charges()) == 50
    assert not await farebox.broken()

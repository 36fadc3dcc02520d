"""The town's own parts: plans travel in prompts, the record is read as written, wires do what they are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.streams import events, text_of, tokens
from tests.torture import plan
from tests.torture.backend import serving
from tests.torture.fault_proxy import wire
from tests.torture.plan import TOKEN_BYTES, Plan
from tests.torture.record import Sent, read_record


@pytest.mark.parametrize("given", [Plan("a1"), Plan("b2", 12.5, 9, 3, "every", "middle", 4)])
def test_a_plan_travels_in_a_prompt(given: Plan) -> None:
    assert Plan.read(given.prompt()) == given


def test_a_token_is_three_bytes_and_one_word_of_the_vocabulary() -> None:
    said = plan.text_of("n", 500)
    assert len(said.encode()) == 500 * TOKEN_BYTES and tokens(said) == 500
    assert said != plan.text_of("m", 500)


async def _chat(url: str, given: Plan, take: int | None = None) -> bytes:
    body = {"messages": [{"role": "user", "content": given.prompt()}], "stream": True}
    headers = {"x-request-id": f"r-{given.nonce}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/chat/completions", json=body, headers=headers) as reply,
    ):
        return await (reply.read() if take is None else reply.content.readexactly(take))


async def _recorded(path: Path, calls: int) -> list[Sent]:
    async with asyncio.timeout(10):
        while True:
            found = list(read_record(path))
            if len(found) == calls and all(each.how for each in found):
                return found
            await asyncio.sleep(0.02)


async def test_the_backend_does_what_the_prompt_says_and_writes_it_down(tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with serving(record) as url:
        whole = await _chat(url, Plan("n1", rate=500, length=20, chunk=3))
        assert text_of(whole) == plan.text_of("n1", 20) and events(whole)[-1] == "[DONE]"
        with pytest.raises(aiohttp.ClientPayloadError):
            await _chat(url, Plan("n2", rate=500, length=20, fail="middle", at=7))
        await _chat(url, Plan("n3", rate=20, length=900), take=500)
        done, failed, left = await _recorded(record, 3)
    assert (done.how, done.tokens, done.reported, done.request_id) == ("whole", 20, (plan.PROMPT_TOKENS, 20), "r-n1")
    assert (failed.how, failed.tokens, failed.reported) == ("failed", 7, None)
    assert left.how == "left" and 0 < left.tokens < 900
    assert done.sent_by(done.ended_at) == 20 and done.sent_by(done.at - 1) == 0
    assert done.at < done.when(10) <= done.ended_at == done.when(20)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def test_a_wire_passes_refuses_swallows_and_resets() -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, wire(f"127.0.0.1:{port}") as line:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        await line.order("hole")
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.3)
        await line.order("pass")
        assert await reader.readexactly(3) == b"two"
        await line.order("reset")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        await line.order("refuse")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", line.port)
        await line.order("pass")
        _, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.close()

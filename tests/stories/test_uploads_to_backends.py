"""Backends that refuse, answer, stop or dawdle before they have the whole of a large form, and callers who leave
meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.backend import Backend, Stall, error, json_answer
from tests.gateway.forms import part
from tests.house import Farebox
from tests.uploads import HUGE, SECOND, SOUND, WORD, Open, asked, opener


@pytest.fixture
async def spare() -> AsyncIterator[Backend]:
    async with Backend().running() as running:
        yield running


@pytest.fixture
def open_farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend, spare: Backend) -> Open:
    return opener(data_dir, database_url, redis_url, backend, spare)


@pytest.fixture
async def farebox(open_farebox: Open) -> AsyncIterator[Farebox]:
    async with open_farebox() as running:
        yield running


async def test_a_backend_that_refuses_before_it_has_everything_is_heard(farebox: Farebox, backend: Backend) -> None:
    backend.reads_body, backend.answer = False, error(413, "Maximum content size limit exceeded")
    answer = await asked(farebox, await farebox.caller(), part("model", b"alone"), HUGE)
    assert (answer.status, b"content size" in answer.body) == (413, True)
    assert not await farebox.charges()


async def test_a_backend_that_answers_before_it_has_everything_is_charged_as_it_says(
    farebox: Farebox, backend: Backend
) -> None:
    backend.reads_body, backend.answer = False, json_answer({**WORD, "duration": 3})
    answer = await asked(farebox, await farebox.caller(), part("model", b"alone"), HUGE)
    assert (answer.status, answer.json()["text"]) == (200, "Hello.")
    assert (await farebox.charge())["amount"] == 3 * SECOND


async def test_a_backend_that_stops_reading_is_not_waited_for(open_farebox: Open, backend: Backend) -> None:
    async with open_farebox(timeouts={"first_byte_s": 0.4}) as farebox:
        backend.reads_body, backend.answer = False, [Stall()]
        answer = await asked(farebox, await farebox.caller(), part("model", b"alone"), HUGE)
        assert (answer.status, answer.error["farebox"]["limit"]) == (504, "first_byte_timeout")
        assert not await farebox.charges()


async def test_a_backend_that_reads_slowly_is_waited_for(open_farebox: Open, slow_port: int) -> None:
    slow = f"""
        [[upstreams]]
        name = "slow"
        base_url = "http://127.0.0.1:{slow_port}/v1"
        allow_private = true

        [[models]]
        id = "slow"
        upstream = "slow"
        kind = "transcription"
        prices = {{ seconds = "0.000001" }}
    """
    async with open_farebox(timeouts={"first_byte_s": 3}, more=slow) as farebox:
        since = asyncio.get_running_loop().time()
        answer = await asked(farebox, await farebox.caller(), part("model", b"slow"), HUGE)
        assert answer.status == 200 and asyncio.get_running_loop().time() - since > 3


@pytest.fixture
async def slow_port() -> AsyncIterator[int]:
    """A backend that takes a quarter of a megabyte, rests, and answers when it has everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        left = int(length[1]) if length else 0
        while left:
            left -= len(await reader.read(262_144))
            await asyncio.sleep(0.035)
        for step in json_answer(WORD):
            assert isinstance(step, bytes)
            writer.write(step)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=131_072)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_caller_who_leaves_before_the_backend_has_everything_pays_nothing(
    farebox: Farebox, backend: Backend
) -> None:
    backend.reads_body, backend.answer = False, [Stall()]
    ada = await farebox.caller(tier="single")
    call = asyncio.create_task(asked(farebox, ada, part("model", b"alone"), HUGE))
    await backend.arrived()
    await asyncio.sleep(0.1)
    call.cancel()
    await farebox.settled()
    assert not await farebox.charges()
    backend.reads_body, backend.answer = True, json_answer(WORD)
    assert (await asked(farebox, ada, part("model", b"alone"), SOUND)).status == 200


async def test_a_caller_who_leaves_once_the_backend_has_everything_pays_for_it(
    farebox: Farebox, backend: Backend
) -> None:
    backend.answer = [Stall()]
    call = asyncio.create_task(asked(farebox, await farebox.caller(), part("model", b"alone"), SOUND))
    seen = await backend.arrived()
    call.cancel()
    await asyncio.wait_for(seen.left.wait(), 30)
    charge = await farebox.charge()
    assert (charge["outcome"], charge["amount"]) == ("caller_left", 10 * SECOND)

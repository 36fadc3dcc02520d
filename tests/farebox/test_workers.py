"""Several processes on one address: calls reach all of them, metrics add up, one may die, all drain."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.backend import Backend, Gate
from tests.backend import stream as script
from tests.process import Served, environment, reach, served
from tests.streams import DONE, delta, stream, usage

pytestmark = pytest.mark.long

WORKERS = 2


@asynccontextmanager
async def several(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Served]:
    env = environment(data_dir, database_url, redis_url, backend.url)
    async with reach(database_url) as within, served(env, within, "--workers", str(WORKERS)) as farebox:
        yield farebox


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Served]:
    async with several(data_dir, database_url, redis_url, backend) as running:
        yield running


def pids(farebox: Served) -> set[int]:
    """The processes that the first one has started and that still run."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == farebox.process.pid and state != "Z":
            found.add(int(folder.name))
    return found


async def metric(farebox: Served, name: str) -> float:
    """The sum of all series of this name."""
    async with aiohttp.request("GET", farebox.run.metrics_url) as reply:
        text = await reply.text()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


async def counted(farebox: Served, name: str, value: float) -> None:
    """Return when the metric says so: the last lines of a call come after its answer."""
    async with asyncio.timeout(30):
        while await metric(farebox, name) != value:
            await asyncio.sleep(0.05)


async def test_every_worker_is_a_replica_and_metrics_add_up(farebox: Served) -> None:
    ada = await farebox.caller(usd="1.00")
    assert len(pids(farebox)) == WORKERS
    assert len(await farebox.rows("SELECT 1 FROM replicas")) == WORKERS
    for _ in range(10):
        async with aiohttp.ClientSession() as fresh:
            headers, body = ada.headers, {"model": "small", "messages": [{"role": "user", "content": "Hello"}]}
            async with fresh.post(f"{farebox.run.url}/v1/chat/completions", json=body, headers=headers) as reply:
                assert reply.status == 200
    await counted(farebox, "farebox_requests_total", 10)
    assert {await metric(farebox, "farebox_requests_total") for _ in range(8)} == {10}


async def test_a_worker_that_dies_is_replaced_and_what_it_counted_stays(farebox: Served) -> None:
    ada = await farebox.caller(usd="1.00")
    assert (await farebox.chat(ada)).status == 200
    await counted(farebox, "farebox_requests_total", 1)
    before = pids(farebox)
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    async with asyncio.timeout(30):
        while len(pids(farebox)) < WORKERS or victim in pids(farebox):
            await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        while (await farebox.chat(ada)).status != 200:
            await asyncio.sleep(0.05)
    await counted(farebox, "farebox_requests_total", 2)
    await counted(farebox, "farebox_streams_open", 0)


async def test_a_signal_drains_all_of_them(farebox: Served, backend: Backend) -> None:
    ada = await farebox.caller(usd="1.00")
    gate = asyncio.Event()
    backend.answer = script([delta("word "), Gate(gate), delta("end", "stop"), usage(8, 2), DONE])
    streams = [asyncio.create_task(_read(farebox, ada)) for _ in range(6)]
    async with asyncio.timeout(30):
        while len(await farebox.rows("SELECT 1 FROM holds WHERE state = 'open'")) < len(streams):
            await asyncio.sleep(0.02)
    farebox.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    gate.set()
    for whole in await asyncio.gather(*streams):
        assert whole.endswith(b"data: [DONE]\n\n") and b'"error"' not in whole
    assert await farebox.ended(within_s=30) == 0
    charges = await farebox.charges()
    assert [charge["outcome"] for charge in charges] == ["completed"] * len(streams)
    assert not await farebox.rows("SELECT 1 FROM replicas")


async def _read(farebox: Served, caller: object) -> bytes:
    async with stream(farebox, caller) as reply:  # type: ignore[arg-type]
        return await reply.read()


async def test_workers_end_with_the_process_that_started_them(farebox: Served) -> None:
    left = pids(farebox)
    farebox.process.kill()
    await farebox.ended()
    async with asyncio.timeout(30):
        while any(Path(f"/proc/{pid}").exists() for pid in left):
            await asyncio.sleep(0.05)


async def test_a_worker_that_cannot_start_ends_the_whole(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with several(data_dir, database_url, redis_url, backend):
        pass
    with pytest.raises(AssertionError, match="a worker ended before it served"):
        env = environment(data_dir, database_url, redis_url, backend.url, KEY_PEPPER="another-" * 8)
        async with reach(database_url) as within, served(env, within, "--workers", "2"):
            pass

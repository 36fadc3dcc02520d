"""A running call tells the bank that it lives, what it has used, and what it needs next; its caller notices nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import RowMapping

from tests import house
from tests.backend import Backend, Cut, Gate, Pause
from tests.backend import stream as script
from tests.house import Farebox
from tests.streams import DONE, HELLO_TOKENS, LARGE, SMALL, delta, stream, tokens, usage

_FALLBACK = """
[[upstreams]]
name = "nowhere"
base_url = "http://127.0.0.1:9/v1"
allow_private = true

[[models]]
id = "first"
upstream = "nowhere"
fallback = "small"
prices = { input = "2.50", output = "10.00" }
"""


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """Beats every 0.2 s."""
    quick: dict[str, Any] = {"bank": {"beat_s": 0.2, "hold_ttl_s": 15, "pool_size": 6}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_FALLBACK, **quick) as running:
        yield running


async def _hold(farebox: Farebox) -> RowMapping:
    (hold,) = await farebox.rows("SELECT * FROM holds")
    return hold


async def _hold_with_output(farebox: Farebox) -> RowMapping:
    """The hold, once a beat has come after the first words."""
    async with asyncio.timeout(30):
        while not ((hold := await _hold(farebox))["usage"] or {}).get("output"):
            await asyncio.sleep(0.02)
    return hold


async def test_a_long_answer_outgrows_its_first_hold_without_a_gap(farebox: Farebox, backend: Backend) -> None:
    words = [f"word{n % 10} and then " for n in range(1500)]
    said = [delta(word) for word in words]
    end = [delta("", "stop"), usage(8, 6000), DONE]
    gate = asyncio.Event()
    backend.answer = script([*said, Gate(gate), *end])
    ada = await farebox.caller(usd="10.00")
    async with stream(farebox, ada, model="large", stream_options={"include_usage": False}) as reply:
        first = (await _hold(farebox))["amount"]
        body = b""
        while len(body) < sum(map(len, said)):
            body += await reply.content.readany()
        assert (await _hold(farebox))["amount"] > 3 * first
        gate.set()
        body += await reply.read()
    assert body == b"".join([*said, end[0], end[2]])
    charge = await farebox.charge()
    assert (charge["outcome"], charge["amount"]) == ("completed", 8 * LARGE["input"] + 6000 * LARGE["output"])
    assert not await farebox.broken()


async def test_a_beat_records_what_was_used_so_far(farebox: Farebox, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.answer = script([delta("The quick brown fox "), Gate(gate), delta("jumps", "stop"), usage(8, 6), DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        hold = await _hold_with_output(farebox)
        used = hold["usage"]
        assert used["input"] == HELLO_TOKENS and used["output"] >= tokens("The quick brown fox ")
        assert hold["checkpoint"] == used["input"] * SMALL["input"] + used["output"] * SMALL["output"]
        gate.set()
        await reply.read()
    assert not await farebox.broken()


async def test_a_fallbacks_checkpoint_is_priced_as_the_fallback(farebox: Farebox, backend: Backend) -> None:
    """Else what a crash leaves behind would not recompute."""
    gate = asyncio.Event()
    backend.answer = script([delta("The quick brown fox "), Gate(gate), delta("jumps", "stop"), usage(8, 6), DONE])
    async with stream(farebox, await farebox.caller(), model="first") as reply:
        hold = await _hold_with_output(farebox)
        (price,) = await farebox.rows("SELECT version FROM prices WHERE model_id = 'small'")
        assert hold["price_version"] == price["version"]
        assert hold["checkpoint"] == hold["usage"]["input"] * 150 + hold["usage"]["output"] * 600
        gate.set()
        await reply.read()
    assert (await farebox.charge())["model"] == "small"
    assert not await farebox.broken()


async def test_a_silent_backend_does_not_let_the_hold_expire(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    """Longer than the hold's time to live and a sweep."""
    brief: dict[str, Any] = {"bank": {"beat_s": 0.2, "hold_ttl_s": 4, "pool_size": 6}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **brief) as farebox:
        backend.answer = script([delta("one"), Pause(6.2), delta("two", "stop"), usage(8, 2), DONE])
        async with stream(farebox, await farebox.caller()) as reply:
            await reply.read()
        (charge,) = await farebox.charges()
        assert (charge["rev"], charge["outcome"]) == ("final", "completed")
        assert not await farebox.broken()


async def test_a_slow_bank_does_not_put_off_the_deadlines(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    """The bank holds the beats up; the backend's silence ends at its own time."""
    bank = {"beat_s": 0.1, "hold_ttl_s": 15, "pool_size": 6, "statement_timeout_s": 60}
    late: dict[str, Any] = {"bank": bank, "timeouts": {"idle_s": 0.5}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **late) as farebox:
        backend.answer = script([delta("one"), Pause(20), Cut()])
        ada = await farebox.caller()
        async with stream(farebox, ada) as reply:
            await reply.content.readany()
            async with farebox.engine.begin() as connection:
                await connection.exec_driver_sql("LOCK TABLE holds IN ACCESS EXCLUSIVE MODE")
                async with asyncio.timeout(15):
                    assert b"idle_timeout" in await reply.read()
    assert not await farebox.broken()

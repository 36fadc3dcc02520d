"""Killed in the middle of fifty streams: the next process finds out what they had used, and charges it once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.backend import Backend, Stall
from tests.backend import stream as script
from tests.process import Served, command, environment, reach, served
from tests.streams import HELLO_TOKENS, SMALL, delta, stream, tokens

_STREAMS = 50


async def test_every_stream_of_a_killed_gateway_is_charged_once_and_its_remainder_stays_locked(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    said = "The quick brown fox jumps over the lazy dog. "
    backend.answer = [*script([delta(said)] * 5, end=False), Stall()]
    # Long enough that none lapses while its process stands still for a moment.
    env = environment(data_dir, database_url, redis_url, backend.url, BANK__HOLD_TTL_S="6")
    async with reach(database_url) as within:
        async with served(env, within) as farebox, AsyncExitStack() as streams:
            callers = [await farebox.caller(usd="1.00", name=f"user{n}") for n in range(5)]
            opening = (streams.enter_async_context(stream(farebox, callers[n % 5])) for n in range(_STREAMS))
            for reply in await asyncio.gather(*opening):
                assert reply.status == 200
            checkpoints = await _checkpoints(farebox)
            farebox.process.kill()
            assert await farebox.ended() == -9
        code, told, _ = await command(env, "verify")
        assert code == 0, told

        async with served(env, within) as farebox:
            await farebox.settled()
            charges = {charge["request_id"]: charge for charge in await farebox.charges()}
            assert charges.keys() == checkpoints.keys() and len(charges) == _STREAMS
            assert {(charge["rev"], charge["outcome"]) for charge in charges.values()} == {("provisional", "recovered")}
            for request_id, charge in charges.items():
                assert charge["amount"] >= checkpoints[request_id]
                assert charge["amount"] >= HELLO_TOKENS * SMALL["input"] + tokens(said * 5) * SMALL["output"]
            locked = await farebox.rows("SELECT sum(amount - spent) AS rest FROM holds WHERE state = 'quarantine'")
            held = await farebox.rows("SELECT sum(held) AS held FROM wallets")
            assert locked[0]["rest"] == held[0]["held"] > 0
            backend.answer = script([delta("fine", "stop"), b"data: [DONE]\n\n"])
            assert (await farebox.chat(callers[0], stream=True)).status == 200
            await farebox.settled()
            assert len(await farebox.rows("SELECT 1 FROM charges")) == _STREAMS + 1
        code, told, _ = await command(env, "verify")
        assert code == 0, told


async def _checkpoints(farebox: Served) -> dict[object, int]:
    """What each hold has recorded, once all of them have."""
    async with asyncio.timeout(30):
        while True:
            rows = await farebox.rows("SELECT id, checkpoint FROM holds WHERE state = 'open' AND checkpoint > 2000")
            if len(rows) == _STREAMS:
                return {row["id"]: row["checkpoint"] for row in rows}
            await asyncio.sleep(0.05)

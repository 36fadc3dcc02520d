"""SIGTERM: no new calls, running ones may end, the rest are told; everything is charged, then the process is gone."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from tests.backend import Backend, Gate, Stall
from tests.backend import stream as script
from tests.process import environment, reach, served
from tests.streams import DONE, HELLO_TOKENS, SMALL, delta, events, stream, tokens, usage


async def test_a_drain_lets_streams_end_tells_the_rest_and_charges_all(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    gate = asyncio.Event()
    backend.then(
        script([delta("one"), Gate(gate), delta(" two", "stop"), usage(8, 3), DONE]),
        [*script([delta("The quick brown fox")], end=False), Stall()],
    )
    env = environment(data_dir, database_url, redis_url, backend.url, DRAIN_TIMEOUT_S="6")
    async with reach(database_url) as within, served(env, within) as farebox:
        ada = await farebox.caller()
        async with stream(farebox, ada) as ends, stream(farebox, ada) as stalls:
            assert await ends.content.readany() == delta("one")
            assert await stalls.content.readany()
            farebox.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                while (await farebox.get("/readyz")).status != 503:
                    await asyncio.sleep(0.01)
            refused = await farebox.chat(ada)
            assert (refused.status, refused.error["code"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) > 0
            assert (await farebox.get("/healthz")).status == 200
            gate.set()
            assert await ends.read() == delta(" two", "stop") + DONE
            *_, error, done = events(await stalls.read())
            assert (error["error"]["code"], done) == ("draining", "[DONE]")
        assert await farebox.ended() == 0
        charges = {charge["outcome"]: charge["amount"] for charge in await farebox.charges()}
        assert charges == {
            "completed": 8 * SMALL["input"] + 3 * SMALL["output"],
            "drained": HELLO_TOKENS * SMALL["input"] + tokens("The quick brown fox") * SMALL["output"],
        }
        assert not await farebox.broken()
        assert list((data_dir / "spool").glob("*.spool")) == []


async def test_a_second_signal_stops_waiting_for_callers_but_not_for_the_money(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    backend.answer = [*script([delta("The quick brown fox")], end=False), Stall()]
    env = environment(data_dir, database_url, redis_url, backend.url, DRAIN_TIMEOUT_S="300")
    async with reach(database_url) as within, served(env, within) as farebox:
        async with stream(farebox, await farebox.caller()) as stalls:
            assert await stalls.content.readany()
            farebox.process.send_signal(signal.SIGINT)
            async with asyncio.timeout(30):
                while (await farebox.get("/readyz")).status != 503:
                    await asyncio.sleep(0.01)
            since = time.monotonic()
            farebox.process.send_signal(signal.SIGINT)
            *_, error, _ = events(await stalls.read())
            assert error["error"]["code"] == "draining"
        assert await farebox.ended() == 0
        assert time.monotonic() - since < 100
        assert (await farebox.charge())["outcome"] == "drained"
        assert not await farebox.broken()

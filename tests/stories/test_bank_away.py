"""The bank goes away: what runs ends well and is charged later; what is new is told to wait; nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import house
from tests.backend import Backend, Gate, chat
from tests.backend import stream as script
from tests.house import Farebox
from tests.ledger.proxy import Wire
from tests.process import command, environment, reach, served
from tests.streams import DONE, LARGE, SMALL, delta, stream, usage

_LONG = [delta(f"word{n % 10} and then ") for n in range(1500)]


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[Wire]:
    wire = Wire(database_url)
    await wire.mend()
    yield wire
    await wire.cut()


async def _gauge(farebox: Farebox, name: str) -> float:
    lines = (await farebox.get("/metrics")).body.decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


async def test_streams_end_new_calls_wait_and_charges_are_posted_when_the_bank_is_back(
    data_dir: Path, wire: Wire, database_url: str, redis_url: str, backend: Backend
) -> None:
    gate = asyncio.Event()
    backend.then(
        script([delta("one"), Gate(gate), delta(" two", "stop"), usage(8, 3), DONE]),
        script([delta("one"), Gate(gate), *_LONG, delta("", "stop"), usage(8, 6000), DONE]),
    )
    async with house.farebox(data_dir, wire.url, redis_url, backend.url) as farebox, reach(database_url) as direct:
        ada = await farebox.caller()
        async with stream(farebox, ada) as short, stream(farebox, ada, model="large") as long:
            await short.content.readany()
            await long.content.readany()
            await wire.cut()
            refused = await farebox.chat(ada)
            assert (refused.status, refused.error["code"]) == (503, "ledger_unavailable")
            assert int(refused.headers["retry-after"]) > 0
            assert (await farebox.get("/readyz")).status == 503
            gate.set()
            assert await short.read() == delta(" two", "stop") + DONE
            # This one outgrows its hold while nobody can make it larger.
            assert await long.read() == b"".join([*_LONG, delta("", "stop"), DONE])
        async with asyncio.timeout(30):
            while await _gauge(farebox, "farebox_spool_events") < 2:
                await asyncio.sleep(0.02)
        assert await _gauge(farebox, "farebox_posting_lag_seconds") > 0
        await wire.mend()
        await farebox.settled()
        charges = {charge["model"]: charge for charge in await direct.rows("SELECT * FROM charges")}
        assert {charge["outcome"] for charge in charges.values()} == {"completed"}
        assert charges["small"]["amount"] == 8 * SMALL["input"] + 3 * SMALL["output"]
        assert charges["large"]["amount"] == 8 * LARGE["input"] + 6000 * LARGE["output"]
        assert await _gauge(farebox, "farebox_spool_events") == 0
        async with asyncio.timeout(30):
            while (await farebox.chat(ada)).status != 200:
                await asyncio.sleep(0.1)
        assert (await farebox.get("/readyz")).status == 200
        await _hears_of_changes_again(farebox, direct)
        assert not await direct.broken()


async def _hears_of_changes_again(farebox: Farebox, direct: Farebox) -> None:
    """A key revoked at the database is refused: the watcher has found its way back."""
    bob = await direct.caller(name="Bob")
    assert (await farebox.chat(bob)).status == 200
    for key in await direct.accounts.list_keys():
        if key.user_id == bob.user.id:
            await direct.accounts.revoke_key(key.id)
    async with asyncio.timeout(30):
        while (await farebox.chat(bob)).status != 401:
            await asyncio.sleep(0.1)


async def test_a_gateway_killed_while_the_bank_is_away_leaves_its_charges_on_disk(
    data_dir: Path, wire: Wire, database_url: str, redis_url: str, backend: Backend
) -> None:
    gate = asyncio.Event()
    backend.then(script([delta("one"), Gate(gate), delta(" two", "stop"), usage(8, 3), DONE]))
    backend.answer = chat()
    env = environment(data_dir, wire.url, redis_url, backend.url)
    async with reach(database_url) as direct:
        ada = await direct.caller(usd="1.00")
        async with served(env, direct) as farebox:
            async with stream(farebox, ada) as reply:
                await reply.content.readany()
                await wire.cut()
                gate.set()
                assert (await reply.read()).endswith(DONE)
            async with asyncio.timeout(30):
                while not any(file.stat().st_size for file in (data_dir / "spool").glob("*.spool")):
                    await asyncio.sleep(0.02)
            farebox.process.kill()
            await farebox.ended()
        await wire.mend()
        async with served(env, direct) as farebox:
            async with asyncio.timeout(30):
                while not (last := await farebox.rows("SELECT * FROM charges WHERE rev = 'final'")):
                    await asyncio.sleep(0.05)
            assert [(charge["amount"], charge["outcome"]) for charge in last] == [
                (8 * SMALL["input"] + 3 * SMALL["output"], "completed")
            ]
            assert await farebox.spendable(ada) == 10**9 - last[0]["amount"]
            assert not await farebox.broken()
        assert (await command(env, "verify"))[0] == 0

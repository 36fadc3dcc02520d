"""An admin changes a price or a tier while people are calling: what runs keeps what it began with, what comes next has
the change, and what was charged stays charged as it was."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.backend import Backend, Gate
from tests.backend import stream as script
from tests.house import Caller, Farebox, until
from tests.streams import DONE, LARGE, delta, stream, usage


async def _version(farebox: Farebox, model: str) -> int:
    """The price version in force, as this replica's admin API says it."""
    prices = (await farebox.admin.read(f"/models/{model}/prices"))["data"]
    return next(int(each["version"]) for each in prices if each["state"] == "in_force")


async def _patched(farebox: Farebox, path: str, patch: dict[str, Any]) -> None:
    etag = (await farebox.admin.get(path)).headers["etag"]
    answer = await farebox.admin.patch(path, patch, match=etag)
    assert answer.status == 200, answer.body


async def test_a_long_answer_keeps_its_price_and_the_next_has_the_other(farebox: Farebox, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.then(script([delta("one"), Gate(gate), delta(" two", "stop"), usage(8, 100), DONE]))
    ada = await farebox.caller()
    before = await _version(farebox, "large")
    async with stream(farebox, ada, model="large") as reply:
        await backend.arrived()
        await _patched(farebox, "/models/large", {"prices": {"input": "25.00", "output": "100.00"}})
        after = await _version(farebox, "large")
        await until(lambda: _charged_by(farebox, await_version=after, caller=ada))
        gate.set()
        await reply.read()
    charges = [row for row in await farebox.charges(ada.user.id) if row["model"] == "large"]
    long = min(charges, key=lambda row: row["request_id"])
    assert (long["price_version"], long["amount"]) == (before, 8 * LARGE["input"] + 100 * LARGE["output"])
    assert after > before and charges[-1]["price_version"] == after
    assert not await farebox.broken()


async def _charged_by(farebox: Farebox, *, await_version: int, caller: Caller) -> bool:
    """Whether a call that begins now is charged by this version."""
    assert (await farebox.chat(caller, model="large")).status == 200
    async with asyncio.timeout(30):
        while not (rows := await farebox.rows("SELECT price_version FROM charges ORDER BY request_id DESC LIMIT 1")):
            await asyncio.sleep(0.01)
    return bool(rows[0]["price_version"] == await_version)


async def test_what_was_charged_keeps_its_version_and_is_recomputed_by_it(farebox: Farebox) -> None:
    ada = await farebox.caller()
    assert (await farebox.chat(ada, model="flat")).status == 200
    (charge,) = await farebox.charges()
    await _patched(farebox, "/models/flat", {"prices": {"per_request": "0.50"}})
    version = await farebox.admin.read(f"/models/flat/prices/{charge['price_version']}")
    assert (version["state"], version["prices"]["per_request"]) == ("past", "0.0100")

    async def dearer() -> bool:
        return (await farebox.chat(ada, model="flat")).headers["x-farebox-cost"] == "0.5000"

    await until(dearer)
    assert (await farebox.charges())[0]["amount"] == charge["amount"] == 10_000_000
    assert not await farebox.broken()


async def test_a_tier_that_is_narrowed_ends_no_answer_and_refuses_the_next(farebox: Farebox, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.then(script([delta("one"), Gate(gate), delta(" two", "stop"), usage(8, 3), DONE]))
    ada = await farebox.caller(tier="paid")
    async with stream(farebox, ada, model="large") as reply:
        await backend.arrived()
        await _patched(farebox, "/tiers/paid", {"models": ["small"], "title": "Narrow"})

        async def refused() -> bool:
            return (await farebox.chat(ada, model="large")).status == 403

        await until(refused)
        gate.set()
        body = await reply.read()
    assert b" two" in body and b"[DONE]" in body
    error = (await farebox.chat(ada, model="large")).error
    assert error["code"] == "model_not_allowed" and "Narrow" in error["message"]
    assert (await farebox.chat(ada, model="small")).status == 200
    assert not await farebox.broken()


async def test_an_upstream_that_moves_is_followed_by_the_next_call(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    assert (await farebox.chat(ada)).status == 200
    async with Backend().running() as other:
        await _patched(farebox, "/upstreams/main", {"base_url": other.url})

        async def arrives() -> bool:
            assert (await farebox.chat(ada)).status == 200
            return bool(other.requests)

        await until(arrives)
    assert not await farebox.broken()

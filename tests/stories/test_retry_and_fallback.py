"""Another backend may answer, but only while the caller has seen nothing; it is one call, and costs what the answering
model costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import house
from tests.backend import Backend, Close, Cut, Script, Stall, chat, error, plain
from tests.backend import stream as script
from tests.house import Farebox
from tests.streams import DONE, SMALL, delta, events, stream

_FALLBACK = """
[[upstreams]]
name = "spare"
base_url = "{spare}"
allow_private = true

[[models]]
id = "first"
upstream = "main"
fallback = "second"
prices = {{ input = "2.50", output = "10.00" }}

[[models]]
id = "second"
upstream = "spare"
upstream_model = "spare-small"
prices = {{ input = "0.15", output = "0.60" }}
"""


@pytest.fixture
async def spare() -> AsyncIterator[Backend]:
    async with Backend(chat()).running() as running:
        yield running


@pytest.fixture
async def farebox(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend, spare: Backend
) -> AsyncIterator[Farebox]:
    catalog = _FALLBACK.format(spare=spare.url)
    impatient: dict[str, Any] = {"timeouts": {"first_byte_s": 2, "idle_s": 2}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=catalog, **impatient) as running:
        yield running


TROUBLE: dict[str, Script] = {
    "fails": error(500, "no"),
    "is busy": error(429, "slow down"),
    "redirects too well": plain(b"gone", status=503),
    "resets": [Cut()],
    "hangs up": [Close()],
    "says nothing": [Stall()],
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_the_fallback_answers_at_its_own_price(
    trouble: str, farebox: Farebox, backend: Backend, spare: Backend
) -> None:
    backend.answer = TROUBLE[trouble]
    ada = await farebox.caller(usd="1.00")
    answer = await farebox.chat(ada, model="first")
    assert (answer.status, answer.json()["choices"][0]["message"]["content"]) == (200, "Hello, world")
    (there,), (here,) = backend.requests, spare.requests
    assert here.json["model"] == "spare-small"
    assert there.header("x-request-id") == here.header("x-request-id") == answer.headers["x-request-id"]
    charge = await farebox.charge()
    assert (charge["model"], charge["upstream"], charge["outcome"]) == ("second", "spare", "completed")
    assert charge["amount"] == 11 * SMALL["input"] + 3 * SMALL["output"]
    assert str(charge["request_id"]) == answer.headers["x-request-id"]
    assert await farebox.spendable(ada) == 10**9 - charge["amount"]
    assert not await farebox.broken()


async def test_a_stream_falls_back_too(farebox: Farebox, backend: Backend, spare: Backend) -> None:
    await backend.stop()
    async with stream(farebox, await farebox.caller(), model="first") as reply:
        assert (await reply.read()).endswith(DONE)
    charge = await farebox.charge()
    assert (charge["model"], charge["amount"]) == ("second", 11 * SMALL["input"] + 3 * SMALL["output"])
    assert not await farebox.broken()


async def test_after_the_first_byte_nobody_else_is_asked(farebox: Farebox, backend: Backend, spare: Backend) -> None:
    backend.answer = [*script([delta("one")], end=False), Cut()]
    async with stream(farebox, await farebox.caller(), model="first") as reply:
        *_, last, _ = events(await reply.read())
    assert last["error"]["code"] == "upstream_error"
    assert spare.requests == []
    assert (await farebox.charge())["model"] == "first"


async def test_when_all_fail_the_last_failure_is_told_and_nothing_is_charged(
    farebox: Farebox, backend: Backend, spare: Backend
) -> None:
    backend.answer, spare.answer = error(500, "no"), [Stall()]
    answer = await farebox.chat(await farebox.caller(), model="first")
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert await farebox.charges() == []
    assert not await farebox.broken()


async def test_a_no_that_is_the_callers_own_is_not_asked_again_elsewhere(
    farebox: Farebox, backend: Backend, spare: Backend
) -> None:
    backend.answer = error(400, "temperature is out of range")
    assert (await farebox.chat(await farebox.caller(), model="first")).status == 400
    assert spare.requests == []


async def test_a_caller_who_leaves_while_the_fallback_is_asked_is_not_served(
    farebox: Farebox, backend: Backend, spare: Backend
) -> None:
    backend.answer, spare.answer = error(500, "no"), [Stall()]
    ada = await farebox.caller()
    call = asyncio.create_task(farebox.chat(ada, model="first"))
    seen = await spare.arrived()
    call.cancel()
    await asyncio.wait_for(seen.left.wait(), 30)
    charge = await farebox.charge()
    assert (charge["model"], charge["outcome"]) == ("second", "caller_left")
    assert not await farebox.broken()


async def test_a_call_the_backend_failed_may_be_made_again_under_its_idempotency_key(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller()
    headers = {**ada.headers, "idempotency-key": "order-7"}
    backend.then(error(500, "no"))
    assert (await farebox.chat(headers)).status == 502
    assert (await farebox.chat(headers)).status == 200
    assert (await farebox.chat(headers)).status == 409

"""The composition root: what it refuses to start with, what its gauges see, and how it drains."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from accounts.store_sql import PepperMismatch
from config.catalog import Declared
from gateway.app import Front, Gateway, open_gateway
from gateway.proxy import Gate as DoorGate
from tests import house
from tests.backend import Backend, Gate, Stall
from tests.backend import stream as script
from tests.house import Farebox
from tests.streams import DONE, delta, events, stream, usage


async def _status(front: Front, method: str, path: str) -> int:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    await front({"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}, receive, send)
    return int(sent[0]["status"])


async def test_metered_posts_go_straight_to_their_endpoint_and_the_rest_through_the_router() -> None:
    async def metered(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("metered", 299)(scope, receive, send)

    rest = Starlette(routes=[Route("/v1/chat", lambda request: PlainTextResponse("rest", 298))])
    front = Front({"/v1/chat": metered}, rest)
    assert await _status(front, "POST", "/v1/chat") == 299
    assert await _status(front, "GET", "/v1/chat") == 298
    assert await _status(front, "POST", "/elsewhere") == 404


async def test_another_pepper_than_the_databases_does_not_start(
    farebox: Farebox, data_dir: Path, database_url: str, redis_url: str
) -> None:
    settings = house.settings(data_dir, database_url, redis_url)
    with pytest.raises(PepperMismatch):
        async with open_gateway(
            settings,
            database_url=database_url,
            redis_url=redis_url,
            pepper=SecretStr("another-pepper-0123456789abcdef0123456789"),
            declared=Declared(),
        ):
            pass


async def test_the_gauges_show_what_runs_now(farebox: Farebox, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.answer = script([delta("one"), Gate(gate), delta("", "stop"), usage(5, 1), DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        await reply.content.readany()
        seen = (await farebox.get("/metrics")).body.decode()
        assert "farebox_streams_open 1.0" in seen and "farebox_holds_open 1.0" in seen
        assert "farebox_holds_usd 0.0\n" not in seen
        gate.set()
        await reply.read()
    await farebox.settled()
    seen = (await farebox.get("/metrics")).body.decode()
    for gauge in ("streams_open", "holds_open", "holds_usd", "spool_events", "ledger_drift_usd"):
        assert f"farebox_{gauge} 0.0" in seen


async def test_a_drain_without_calls_is_done_at_once_and_lets_nobody_in(farebox: Farebox) -> None:
    ada = await farebox.caller()
    async with asyncio.timeout(30):
        assert await farebox.run.gateway.drain(60)
    assert (await farebox.get("/readyz")).status == 503
    assert (await farebox.get("/healthz")).status == 200
    assert (await farebox.chat(ada)).error["code"] == "draining"


async def test_a_bank_that_is_away_is_waited_for_once() -> None:
    """The command drains, and so does the end of its block: a stop must not take twice as long for it."""
    waited: list[float] = []

    async def flush(timeout_s: float) -> bool:
        waited.append(timeout_s)
        return False

    poster, pulse = SimpleNamespace(flush=flush), SimpleNamespace(pumps=set())
    gateway = Gateway(*cast(Any, (None, None, None, DoorGate(1, lambda: 0), pulse, poster, None)))
    assert not await gateway.drain(0) and not await gateway.drain(0)
    assert waited[0] > 1 > waited[1]


async def test_a_drain_in_a_hurry_tells_callers_and_keeps_the_money(farebox: Farebox, backend: Backend) -> None:
    backend.answer = [*script([delta("one")], end=False), Stall()]
    hurry = asyncio.Event()
    async with stream(farebox, await farebox.caller()) as reply:
        await reply.content.readany()
        drain = asyncio.create_task(farebox.run.gateway.drain(60, hurry))
        await asyncio.sleep(0.1)
        assert not drain.done() and farebox.run.gateway.running == 1
        hurry.set()
        assert await asyncio.wait_for(drain, 30)
        assert events(await reply.read())[-2]["error"]["code"] == "draining"
    assert (await farebox.charge())["outcome"] == "drained"
    assert not await farebox.broken()

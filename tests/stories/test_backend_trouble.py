"""The backend fails in every way it can: the caller hears of it in the right words, once, and pays for what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import house
from tests.backend import (
    Backend,
    Close,
    Cut,
    Flood,
    Pause,
    Script,
    Stall,
    Step,
    chunk,
    error,
    head,
    json_answer,
    plain,
)
from tests.backend import (
    stream as script,
)
from tests.house import Farebox
from tests.streams import DONE, HELLO_TOKENS, SMALL, delta, event, events, stream, text_of, tokens

_BOUNDS: dict[str, Any] = {"limits": {"reply_bytes_max": 100_000, "event_bytes_max": 50_000}}
_PATIENCE = {
    "first_byte_timeout": {"first_byte_s": 2},
    "idle_timeout": {"idle_s": 2},
    "total_timeout": {"total_s": 2.5},
}


@pytest.fixture
async def farebox(
    request: pytest.FixtureRequest, data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> AsyncIterator[Farebox]:
    """Impatient in the one way that a test's trouble is about: else a slow machine would tell another."""
    trouble = request.getfixturevalue("trouble") if "trouble" in request.fixturenames else ""
    impatient = {**_BOUNDS, "timeouts": _PATIENCE.get(_limit_of(trouble), {})}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **impatient) as running:
        yield running


def _whole(length: int, *steps: Step) -> list[Step]:
    return [head(200, (("content-type", "application/json"), ("content-length", str(length)))), *steps]


BEFORE: dict[str, tuple[Script, int, str]] = {
    "resets before its head": ([Cut()], 502, "reset"),
    "hangs up before its head": ([Close()], 502, "reset"),
    "hangs up inside its head": ([b"HTTP/1.1 200 OK\r\ncontent-", Close()], 502, "reset"),
    "speaks no HTTP": ([b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Close()], 502, "protocol"),
    "redirects": ([head(302, (("location", "http://127.0.0.1/"), ("content-length", "0")))], 502, "protocol"),
    "fails": (error(500, "secret stack trace"), 502, "protocol"),
    "is overloaded": (error(503, "overloaded", headers=(("retry-after", "5"),)), 502, "protocol"),
    "answers with a page": (plain(b"<html>log in</html>", content_type="text/html"), 502, "protocol"),
    "says nothing": ([Stall()], 504, "first_byte_timeout"),
}
WHOLE: dict[str, tuple[Script, int, str]] = {
    "promises more than it sends": (_whole(100, b'{"choices":', Close()), 502, "reset"),
    "resets in its body": (_whole(100, b'{"choices":', Cut()), 502, "reset"),
    "stalls in its body": (_whole(100, b'{"choices":', Stall()), 504, "idle_timeout"),
    "sends too much": ([head(200), b"{", Flood(b" " * 10_000)], 502, "too_large"),
    "trickles": (_whole(99, *[step for _ in range(40) for step in (b" ", Pause(0.1))]), 504, "total_timeout"),
}


@pytest.mark.parametrize("trouble", [*BEFORE, *WHOLE])
async def test_trouble_before_anything_could_be_told_is_a_plain_reply(
    trouble: str, farebox: Farebox, backend: Backend
) -> None:
    backend.answer, status, limit = (BEFORE | WHOLE)[trouble]
    ada = await farebox.caller(usd="1.00")
    for streamed in (False, True):
        async with asyncio.timeout(30):
            answer = await farebox.chat(ada, stream=streamed)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        code = "upstream_timeout" if status == 504 else "upstream_error"
        assert (answer.error["code"], answer.error["farebox"]["limit"]) == (code, limit)
        assert b"secret" not in answer.body and b"127.0.0.1" not in answer.body
        assert answer.error["farebox"]["request_id"] == answer.headers["x-request-id"]
    assert await farebox.charges() == []
    assert await farebox.spendable(ada) == 10**9
    assert len(backend.requests) == 2, "what a backend may have seen is not sent again"
    assert not await farebox.broken()


async def test_nobody_listens_where_the_backend_should_be(farebox: Farebox, backend: Backend) -> None:
    await backend.stop()
    answer = await farebox.chat(await farebox.caller())
    assert (answer.status, answer.error["code"], answer.error["farebox"]["limit"]) == (502, "upstream_error", "connect")
    assert await farebox.charges() == []
    assert not await farebox.broken()


_SAID = [delta("The quick "), delta("brown fox")]
AFTER: dict[str, tuple[Script, str]] = {
    "resets": ([*script(_SAID, end=False), Pause(0.05), Cut()], "reset"),
    "hangs up": ([*script(_SAID, end=False), Close()], "reset"),
    "breaks its framing": ([*script(_SAID, end=False), Pause(0.05), b"zz\r\nnot a chunk\r\n"], "protocol"),
    "stalls": ([*script(_SAID, end=False), Stall()], "idle_timeout"),
    "stops in the middle of an event": ([*script([*_SAID, b'data: {"cho'], end=False), Stall()], "idle_timeout"),
    "never ends its event": ([*script([*_SAID, b"data: "], end=False), Flood(chunk(b"x" * 9_000))], "too_large"),
    "never ends": ([*script(_SAID, end=False), *[s for _ in range(40) for s in (chunk(b": ping\n\n"), Pause(0.1))]],
                   "total_timeout"),
}  # fmt: skip


def _limit_of(trouble: str) -> str:
    """The limit that this trouble runs into."""
    return AFTER[trouble][1] if trouble in AFTER else (BEFORE | WHOLE).get(trouble, ((), 0, ""))[2]


@pytest.mark.parametrize("trouble", AFTER)
async def test_trouble_after_the_first_byte_is_one_event_and_what_came_is_charged(
    trouble: str, farebox: Farebox, backend: Backend
) -> None:
    backend.answer, limit = AFTER[trouble]
    ada = await farebox.caller(usd="1.00")
    async with asyncio.timeout(30), stream(farebox, ada) as reply:
        assert reply.status == 200
        body = await reply.read()
    assert body.startswith(b"".join(_SAID)) and body.endswith(DONE)
    *_, last, done = events(body)
    assert body.count(b'"error"') == 1 and done == "[DONE]" and "choices" not in last
    code = "upstream_timeout" if "timeout" in limit else "upstream_error"
    assert (last["error"]["code"], last["error"]["farebox"]["limit"]) == (code, limit)
    assert last["error"]["farebox"]["request_id"] == reply.headers["x-request-id"]
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("upstream_error", "counted")
    assert charge["amount"] == HELLO_TOKENS * SMALL["input"] + tokens(text_of(body)) * SMALL["output"]
    assert text_of(body) == "The quick brown fox"
    assert not await farebox.broken()


async def test_a_stream_that_brings_nothing_costs_nothing(farebox: Farebox, backend: Backend) -> None:
    backend.answer = [*script([], end=False), Close()]
    async with stream(farebox, await farebox.caller()) as reply:
        assert events(await reply.read())[0]["error"]["code"] == "upstream_error"
    assert await farebox.charges() == []
    assert not await farebox.broken()


async def test_an_error_the_backend_tells_in_its_stream_passes_and_is_recorded(
    farebox: Farebox, backend: Backend
) -> None:
    said = [delta("The quick "), event({"error": {"message": "out of memory"}}), DONE]
    backend.answer = script(said)
    async with stream(farebox, await farebox.caller()) as reply:
        assert await reply.read() == b"".join(step for step in said if isinstance(step, bytes))
    assert (await farebox.charge())["outcome"] == "upstream_error"
    assert not await farebox.broken()


async def test_what_comes_after_an_answer_does_not_reach_the_next_caller(farebox: Farebox, backend: Backend) -> None:
    told = head(200, (("content-type", "application/json"), ("content-length", "14")))
    smuggled = b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n"stolen"'
    backend.then([told + b'{"choices":[]}' + smuggled])
    backend.answer = json_answer({"choices": [], "id": "mine"})
    ada = await farebox.caller()
    first = await farebox.chat(ada)
    assert b"stolen" not in first.body
    assert (await farebox.chat(ada)).json()["id"] == "mine"
    assert not await farebox.broken()

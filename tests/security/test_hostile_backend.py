"""A backend that lies about where a reply ends: what it sends for one caller never reaches another."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tests.backend import Backend, Close, Gate, Pause, Script, chunk, head, json_answer, plain
from tests.house import Farebox

GOOD = b'{"choices":[],"id":"good"}'
STOLEN = b'{"choices":[],"id":"stolen"}'
JSON = b"content-type: application/json\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def reply(body: bytes, *lines: bytes) -> bytes:
    framing = lines or (b"content-length: %d\r\n" % len(body),)
    return OK + JSON + b"".join(framing) + b"\r\n" + body


EXTRA: dict[str, Script] = {
    "a second reply at once": [reply(GOOD) + reply(STOLEN)],
    "a second reply a little later": [reply(GOOD), Pause(0.05), reply(STOLEN)],
    "a second reply in pieces": [reply(GOOD) + reply(STOLEN)[:10], Pause(0.05), reply(STOLEN)[10:]],
    "bytes behind its length": [reply(GOOD) + b"x" * 1000],
    "a reply behind the last chunk": [
        OK + JSON + b"transfer-encoding: chunked\r\n\r\n" + chunk(GOOD) + b"0\r\n\r\n" + reply(STOLEN)
    ],
    "an interim reply behind it": [reply(GOOD) + b"HTTP/1.1 100 Continue\r\n\r\n" + reply(STOLEN)],
}


@pytest.mark.parametrize("script", EXTRA.values(), ids=EXTRA)
async def test_what_follows_a_reply_is_nobodys(farebox: Farebox, backend: Backend, script: Script) -> None:
    ada, bob = await farebox.caller(), await farebox.caller(name="Bob")
    backend.answer = lambda seen: json_answer({"choices": [], "id": seen.json["messages"][0]["content"]})
    backend.then(script)
    first = await farebox.chat(ada, "first")
    assert b"stolen" not in first.body
    await asyncio.sleep(0.15)  # what comes later comes while the connection waits for the next call
    for content in ("second", "third"):
        assert (await farebox.chat(bob, content)).json()["id"] == content
    assert not await farebox.broken()


BROKEN: dict[str, Script] = {
    "a length and chunks": [
        reply(chunk(GOOD) + b"0\r\n\r\n", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n")
    ],
    "two lengths": [reply(GOOD, b"content-length: 5\r\n", b"content-length: 26\r\n")],
    "a negative length": [reply(GOOD, b"content-length: -1\r\n"), Close()],
    "a switch of protocols": [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        Close(),
    ],
    "a status below all": [b"HTTP/1.1 000 Odd\r\ncontent-length: 0\r\n\r\n"],
    "HTTP/0.9": [GOOD, Close()],
    "HTTP/2": [b"HTTP/2 200 OK\r\ncontent-length: 0\r\n\r\n", Close()],
    "a coding within chunks": [reply(b"", b"transfer-encoding: gzip, chunked\r\n")],
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_a_reply_that_can_be_read_in_two_ways_is_a_failure_and_its_connection_is_not_used_again(
    farebox: Farebox, backend: Backend, script: Script
) -> None:
    ada = await farebox.caller()
    backend.answer = json_answer({"choices": [], "id": "mine"})
    backend.then(script)
    answer = await farebox.chat(ada)
    assert (answer.status, answer.error["code"]) in ((502, "upstream_error"), (504, "upstream_timeout")), answer.body
    assert (await farebox.chat(ada)).json()["id"] == "mine"
    assert len({seen.connection for seen in backend.requests}) == 2
    assert not await farebox.broken()


@pytest.mark.parametrize("odd", [b"999 Odd\r\ncontent-length: 0", b"204 No Content"])
async def test_a_reply_without_an_answer_is_a_failure(farebox: Farebox, backend: Backend, odd: bytes) -> None:
    ada = await farebox.caller()
    backend.answer = json_answer({"choices": [], "id": "mine"})
    backend.then([b"HTTP/1.1 " + odd + b"\r\n\r\n"])
    assert (await farebox.chat(ada)).status == 502
    assert (await farebox.chat(ada)).json()["id"] == "mine"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br, zstd", "identity, gzip"])
async def test_a_compressed_reply_is_not_opened(farebox: Farebox, backend: Backend, coding: str) -> None:
    ada, bomb = await farebox.caller(), gzip.compress(b" " * 50_000_000)
    backend.answer = plain(bomb, headers=(("content-encoding", coding),))
    assert (await farebox.chat(ada)).status == 502
    backend.answer = plain(bomb, headers=(("content-encoding", coding),), content_type="text/event-stream")
    assert (await farebox.chat(ada, stream=True)).status == 502
    assert not await farebox.charges(ada.user.id)


async def test_interim_replies_are_read_past_for_as_long_as_a_call_waits_and_no_longer(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller()
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    backend.then([interim * 1000, *plain(GOOD)])
    answer = await farebox.chat(ada)
    assert answer.status in (200, 502)
    backend.answer = json_answer({"choices": [], "id": "mine"})
    assert (await farebox.chat(ada)).json()["id"] == "mine"


async def test_what_a_backend_sets_for_one_caller_is_not_sent_with_the_next(farebox: Farebox, backend: Backend) -> None:
    ada, bob = await farebox.caller(), await farebox.caller(name="Bob")
    backend.then(json_answer({"choices": []}, headers=(("set-cookie", "session=adas"), ("authorization", "Bearer a"))))
    assert "set-cookie" not in (await farebox.chat(ada)).headers
    await farebox.chat(bob)
    assert [seen.header("cookie") for seen in backend.requests] == [None, None]
    assert len({seen.connection for seen in backend.requests}) == 1


async def test_a_caller_who_leaves_takes_the_connection_along(farebox: Farebox, backend: Backend) -> None:
    ada, bob, gate = await farebox.caller(), await farebox.caller(name="Bob"), asyncio.Event()
    backend.answer = lambda seen: json_answer({"choices": [], "id": seen.json["messages"][0]["content"]})
    backend.then([head(200, (("content-type", "application/json"), ("content-length", "28"))), Gate(gate), STOLEN])
    call = asyncio.create_task(farebox.chat(ada))
    await backend.arrived()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await farebox.settled()
    gate.set()
    assert (await farebox.chat(bob, "mine")).json()["id"] == "mine"
    assert len({seen.connection for seen in backend.requests}) == 2

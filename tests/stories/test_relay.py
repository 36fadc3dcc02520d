"""What passes through is what was sent: at once, unchanged, at the reader's pace; and what must not cross does not."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from farebox import connection
from farebox.cycle import Cycle
from tests import house
from tests.backend import Backend, Flood, Gate, Pause, chat, chunk, error, head, json_answer, plain
from tests.backend import stream as script
from tests.house import Farebox
from tests.streams import DONE, SMALL, delta, event, events, standstill, stream, until, usage

_ALLOWED_UPSTREAM = {
    "host", "accept", "accept-encoding", "content-type", "content-length", "x-request-id", "authorization",
}  # fmt: skip


async def test_the_first_chunk_reaches_the_caller_while_the_backend_still_writes(
    farebox: Farebox, backend: Backend
) -> None:
    gate = asyncio.Event()
    backend.answer = script([delta("one"), Gate(gate), delta("two", "stop"), DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        async with asyncio.timeout(30):
            assert await reply.content.readany() == delta("one")
        gate.set()
        assert await reply.read() == delta("two", "stop") + DONE
    assert not await farebox.broken()


async def test_odd_bytes_pass_unchanged(farebox: Farebox, backend: Backend) -> None:
    said = (
        b": a comment\n\nretry: 5\nid: 7\n"
        b'data:  {"choices" : [ {"index":0,"delta":{"content":"\\u00e9 \xc3\xa9 \xf0\x9f\xa6\x8a"}} ],"new":1.0e5}\n\n'
        b'event: message\r\ndata: {"choices":[]}\r\n\r\n' + DONE
    )
    backend.answer = script([said[at : at + 5] for at in range(0, len(said), 5)])
    async with stream(farebox, await farebox.caller()) as reply:
        assert await reply.read() == said
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_a_caller_that_does_not_read_slows_the_backend_down(farebox: Farebox, backend: Backend) -> None:
    """Between the two are socket buffers and a little of ours; the rest of 256 MiB stays where it is."""
    backend.answer = [*script([delta("go")], end=False), Flood(chunk(delta("x" * 16_000)), 256 * 1024**2)]
    ada = await farebox.caller(tier="admin", usd="0")
    with _deaf_caller(farebox, ada.key):
        seen = await backend.arrived()
        assert await standstill(lambda: seen.sent) < 32 * 1024**2
    await asyncio.wait_for(seen.left.wait(), 30)
    assert (await farebox.charge())["outcome"] == "caller_left"


async def test_a_caller_that_falls_behind_gets_every_byte_in_order(
    farebox: Farebox, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written at once and what has to wait for room take turns."""
    taken: list[bool] = []
    write = Cycle.write

    def counted(cycle: Cycle, piece: bytes) -> bool:
        taken.append(write(cycle, piece))
        return taken[-1]

    monkeypatch.setattr(Cycle, "write", counted)
    said = [delta(f"{n} " + "x" * 20_000) for n in range(600)]
    backend.answer = script([*said, DONE])
    ada = await farebox.caller(tier="admin", usd="0")
    with _deaf_caller(farebox, ada.key) as slow:
        await until(lambda: False in taken)
        assert await asyncio.to_thread(_body, slow) == b"".join(said) + DONE
    assert True in taken[: taken.index(False)] and True in taken[taken.index(False) :]
    assert (await farebox.charge())["outcome"] == "completed"


@pytest.mark.parametrize("offered", [True, False])
async def test_a_server_that_writes_message_by_message_gives_the_same_answer(
    offered: bool, farebox: Farebox, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    send = Cycle.send

    async def counted(cycle: Cycle, message: Any) -> None:
        messages.append(message["type"])
        await send(cycle, message)

    monkeypatch.setattr(Cycle, "send", counted)
    if not offered:
        monkeypatch.setattr(connection, "_EXTENSIONS", {})
    said = [delta(f"{n} ") for n in range(30)]
    backend.answer = script([*(step for one in said for step in (one, Pause(0.005))), usage(9, 30), DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        assert await reply.read() == b"".join(said) + DONE
    charge = await farebox.charge()
    assert (charge["outcome"], charge["amount"]) == ("completed", 9 * SMALL["input"] + 30 * SMALL["output"])
    assert (len(messages) < 8) is offered, "pieces of a steady stream leave without a message"


async def test_a_caller_that_never_reads_is_given_up(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    backend.answer = [*script([delta("go")], end=False), Flood(chunk(delta("x" * 16_000)))]
    given_up: dict[str, Any] = {"limits": {"send_timeout_s": 0.3}}
    async with house.farebox(data_dir, database_url, redis_url, backend.url, **given_up) as farebox:
        ada = await farebox.caller(tier="admin", usd="0")
        with _deaf_caller(farebox, ada.key) as deaf:
            seen = await backend.arrived()
            await asyncio.wait_for(seen.left.wait(), 30)
            charge = await farebox.charge()
            assert charge["outcome"] == "caller_left"
            assert not await farebox.broken()
            assert await asyncio.wait_for(asyncio.to_thread(_ends, deaf), 30), "the connection stays open"


async def test_chunks_that_would_run_in_a_browser_lose_what_would_run(farebox: Farebox, backend: Backend) -> None:
    hostile = {"event": {"type": "execute", "data": {"code": "alert(1)"}}, "selected_model_id": "x", "choices": []}
    backend.answer = script([event(hostile), delta("fine", "stop"), DONE])
    async with stream(farebox, await farebox.caller()) as reply:
        body = await reply.read()
    assert events(body) == [{"choices": []}, *events(delta("fine", "stop")), "[DONE]"]


@pytest.fixture
def upstream_key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAREBOX_TEST_UPSTREAM_KEY", "upstream-secret")
    return "upstream-secret"


async def test_nothing_of_one_side_crosses_to_the_other(upstream_key: str, farebox: Farebox, backend: Backend) -> None:
    """Two users through one connection to the backend: neither leaves anything to the backend or to the other."""
    private = (
        ("set-cookie", "session=backend"), ("connection", "keep-alive, x-hop"), ("x-hop", "1"), ("server", "secretd"),
        ("openai-organization", "org-ours"), ("www-authenticate", "Basic"), ("x-ratelimit-remaining-requests", "1"),
        ("access-control-allow-origin", "*"), ("x-useful", "kept"),
    )  # fmt: skip
    backend.answer = lambda seen: json_answer({"choices": []}, headers=private)
    ada, bob = await farebox.caller(name="Ada"), await farebox.caller(name="Bob")
    spoofed = {
        "cookie": "session=caller", "x-forwarded-for": "10.0.0.1", "proxy-authorization": "Basic eDp5",
            "te": "trailers",
        "x-openwebui-user-id": "root", "x-openwebui-user-role": "admin", "x-hop": "1",
        "connection": "keep-alive, x-hop", "user-agent": "curl", "referer": "https://private.example",
    }  # fmt: skip
    for caller in (ada, bob, ada):
        answer = await farebox.chat({**spoofed, **caller.headers, "x-api-key": caller.key})
        assert answer.status == 200
        assert answer.headers["x-useful"] == "kept"
        crossed = {"set-cookie", "x-hop", "openai-organization", "www-authenticate", "access-control-allow-origin"}
        assert not crossed & answer.headers.keys()
        assert answer.headers.get("server") != "secretd"
        assert "x-ratelimit-remaining-requests" not in answer.headers
    assert {seen.connection for seen in backend.requests} == {1}
    for seen in backend.requests:
        assert {name.lower() for name, _ in seen.headers} <= _ALLOWED_UPSTREAM
        assert seen.header("authorization") == f"Bearer {upstream_key}"
        assert ada.key.encode() not in seen.head and bob.key.encode() not in seen.head


async def test_usage_is_asked_of_the_backend_and_hidden_from_a_caller_who_did_not_ask(
    farebox: Farebox, backend: Backend
) -> None:
    async with stream(farebox, await farebox.caller()) as reply:
        body = await reply.read()
    assert backend.requests[0].json["stream_options"] == {"include_usage": True}
    assert b"usage" not in body and body.endswith(DONE)
    assert (await farebox.charge())["usage_source"] == "reported"


async def test_a_caller_who_asked_for_usage_sees_its_cost_and_balance(farebox: Farebox) -> None:
    ada = await farebox.caller(usd="1.00")
    async with stream(farebox, ada, stream_options={"include_usage": True}) as reply:
        *_, last, done = events(await reply.read())
    charge = await farebox.charge()
    assert charge["amount"] == 11 * SMALL["input"] + 3 * SMALL["output"] == 3450
    assert (last["usage"]["cost"], last["usage"]["balance"], done) == ("0.00000345", "0.99999655", "[DONE]")
    assert last["usage"]["prompt_tokens"] == 11


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_no_of_the_backend_passes_with_its_status_and_body(
    streamed: bool, farebox: Farebox, backend: Backend
) -> None:
    backend.answer = error(422, "temperature is out of range", headers=(("x-useful", "kept"),))
    ada = await farebox.caller(usd="1.00")
    answer = await farebox.chat(ada, stream=streamed)
    assert (answer.status, answer.headers["x-useful"]) == (422, "kept")
    assert answer.error == {"message": "temperature is out of range", "type": "error", "code": "backend_says_no"}
    assert await farebox.charges() == []
    assert await farebox.spendable(ada) == 10**9
    assert not await farebox.broken()


async def test_a_reply_we_cannot_read_does_not_pass_unmetered(farebox: Farebox, backend: Backend) -> None:
    backend.answer = plain(b"\x1f\x8b...", headers=(("content-encoding", "gzip"),))
    answer = await farebox.chat(await farebox.caller())
    assert (answer.status, answer.error["code"], answer.error["farebox"]["limit"]) == (
        502,
        "upstream_error",
        "encoding",
    )
    assert await farebox.charges() == []


async def test_the_charge_is_handed_over_before_the_caller_sees_the_end(farebox: Farebox, backend: Backend) -> None:
    """The wallet is locked, so nothing can be posted: what is waiting when the end comes was handed over before it."""
    head, *rest = script([delta("x", "stop"), usage(5, 1), DONE])
    locked = asyncio.Event()
    backend.answer = [head, Gate(locked), *rest]
    ada = await farebox.caller()
    async with stream(farebox, ada) as reply, farebox.engine.begin() as connection:
        await connection.execute(text("SELECT 1 FROM wallets WHERE id = :id FOR UPDATE"), {"id": ada.user.wallet_id})
        locked.set()
        assert (await reply.read()).endswith(DONE)
        assert farebox.run.gateway._poster.waiting == 1
    assert len(await farebox.charges()) == 1


async def test_what_the_backend_sends_after_its_end_mark_does_not_cost_the_connection(
    farebox: Farebox, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body ends a moment after [DONE]: the caller does not wait for it, and the connection is used again."""
    monkeypatch.setattr("gateway.mark._AT_ONCE_S", 30)
    late = [*script([delta("x", "stop"), usage(5, 1), DONE], end=False), Pause(0.1), b"0\r\n\r\n"]
    backend.answer = late
    ada = await farebox.caller()
    for _ in range(2):
        async with stream(farebox, ada) as reply:
            assert (await reply.read()).endswith(DONE)
        await farebox.settled()
    assert backend.connections == 1
    assert [charge["outcome"] for charge in await farebox.charges()] == ["completed", "completed"]
    counted = (await farebox.get("/metrics")).body.decode()
    assert 'code="caller_left"' not in counted


async def test_a_stream_without_end_mark_ends_without_one(farebox: Farebox, backend: Backend) -> None:
    backend.answer = script([delta("x", "stop"), usage(5, 1)])
    async with stream(farebox, await farebox.caller()) as reply:
        assert await reply.read() == delta("x", "stop")
    assert (await farebox.charge())["amount"] == 5 * SMALL["input"] + SMALL["output"]


async def test_a_backend_that_does_not_stream_answers_whole(farebox: Farebox, backend: Backend) -> None:
    backend.answer = lambda seen: [
        head(200, (("content-type", "application/json"), ("content-length", "14"))),
        b'{"choices":[]}',
    ]
    answer = await farebox.chat(await farebox.caller(), stream=True)
    assert (answer.status, answer.body) == (200, b'{"choices":[]}')


async def test_two_streams_of_one_user_do_not_mix(farebox: Farebox, backend: Backend) -> None:
    backend.answer = lambda seen: chat([f"{seen.json['messages'][0]['content']} "] * 50)(seen)
    ada = await farebox.caller()

    async def ask(word: str) -> bytes:
        async with stream(farebox, ada, word) as reply:
            return await reply.read()

    bodies = await asyncio.gather(*(ask(f"w{n}") for n in range(20)))
    for n, body in enumerate(bodies):
        said = {chunk["choices"][0]["delta"].get("content") for chunk in events(body)[:-1]}
        assert said == {f"w{n} ", None}
    assert len(await farebox.charges()) == 20
    assert not await farebox.broken()


def _deaf_caller(farebox: Farebox, key: str) -> socket.socket:
    """A caller with a small window that has asked and reads nothing."""
    address = urlsplit(farebox.url)
    body = json.dumps({"model": "small", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    asks = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}"
    )
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    deaf.connect((address.hostname, address.port))
    deaf.sendall(asks.encode() + b"\r\n\r\n" + body)
    return deaf


def _body(slow: socket.socket) -> bytes:
    """All of the reply's body, read from now on."""
    slow.settimeout(20)
    reply = http.client.HTTPResponse(slow)
    reply.begin()
    return reply.read()


def _ends(deaf: socket.socket) -> bool:
    """Read what is left; whether the other side ends it."""
    deaf.settimeout(20)
    try:
        while deaf.recv(1 << 20):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True

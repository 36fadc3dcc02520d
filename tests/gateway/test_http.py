"""The transport under httpx's interface: what it adds, what it keeps, and how its failures are told.

How a backend can misbehave is played out in test_upstream; here are the parts that only httpx's own client uses, and
the translation of every error aiohttp has.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator

import aiohttp
import httpx
import pytest
import respx
from aiohttp import client_exceptions

from gateway import http
from tests import backend as play
from tests.backend import Backend
from tests.gateway.forms import Afar

SAFE = (httpx.ConnectTimeout, httpx.ConnectError, httpx.UnsupportedProtocol)


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend().running() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=http.AiohttpTransport(private=True)) as client:
        yield client


async def test_it_serves_the_ordinary_httpx_client(client: httpx.AsyncClient, backend: Backend) -> None:
    backend.answer = play.json_answer({"ok": True}, 201)
    reply = await client.post(f"{backend.url}/things?a=b%2Fc", json={"name": "é"}, headers={"x-note": "1"})
    assert (reply.status_code, reply.json()) == (201, {"ok": True})
    seen = backend.requests[0]
    assert (seen.path, seen.header("x-note")) == ("/v1/things?a=b%2Fc", "1")
    assert seen.json == {"name": "é"}


async def test_it_streams_to_the_httpx_client(client: httpx.AsyncClient, backend: Backend) -> None:
    gate = asyncio.Event()
    backend.answer = play.stream([b"one", play.Gate(gate), b"two"])
    async with client.stream("POST", backend.url, json={}) as reply:
        pieces = reply.aiter_raw()
        assert await anext(pieces) == b"one"
        gate.set()
        assert await anext(pieces) == b"two"


async def test_leaving_a_stream_closes_its_socket(client: httpx.AsyncClient, backend: Backend) -> None:
    backend.answer = play.stream([b"one", play.Stall()])
    async with client.stream("POST", backend.url, json={}) as reply:
        await anext(reply.aiter_raw())
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)


async def test_a_read_timeout_is_kept_where_it_is_asked_for(client: httpx.AsyncClient, backend: Backend) -> None:
    backend.answer = [play.Stall()]
    with pytest.raises(httpx.ReadTimeout):
        await client.post(backend.url, json={}, timeout=httpx.Timeout(5, read=0.1))


async def test_the_environment_names_no_proxy_for_it(
    client: httpx.AsyncClient, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    backend.answer = play.json_answer({})
    assert (await client.get(backend.url)).status_code == 200


async def test_a_body_is_not_decoded_below_httpx(client: httpx.AsyncClient, backend: Backend) -> None:
    backend.answer = play.plain(b"not really gzip", headers=(("content-encoding", "gzip"),))
    async with client.stream("GET", backend.url) as reply:
        assert b"".join([piece async for piece in reply.aiter_raw()]) == b"not really gzip"


async def test_a_body_that_lies_elsewhere_is_sent_with_its_length(backend: Backend) -> None:
    body, transport = Afar(bytes(300_000) + b"end"), http.AiohttpTransport(private=True)
    backend.answer = play.json_answer({})
    exchange = await transport.open("POST", backend.url, [], body, None)
    while await exchange.read():
        pass
    await transport.aclose()
    (seen,) = backend.requests
    assert seen.body == body[:] and seen.header("content-length") == "300003"


async def test_it_can_be_used_again_after_it_was_closed(backend: Backend) -> None:
    transport = http.AiohttpTransport(private=True)
    backend.answer = play.plain(b"{}")
    for _ in range(2):
        reply = await transport.handle_async_request(http.Request("GET", backend.url))
        assert await reply.aread() == b"{}"
        await transport.aclose()
    await transport.aclose()


@respx.mock(using="httpx")
async def test_respx_can_stand_in_front_of_it(respx_mock: respx.MockRouter, client: httpx.AsyncClient) -> None:
    respx_mock.get("http://nowhere.invalid/").respond(204)
    assert (await client.get("http://nowhere.invalid/")).status_code == 204


# Whatever keeps a connection from being made, no byte was sent; whatever comes later may come after.


def _library_errors() -> list[type[BaseException]]:
    classes = [kind for _, kind in inspect.getmembers(client_exceptions, inspect.isclass)]
    return [kind for kind in classes if issubclass(kind, aiohttp.ClientError)]


@pytest.mark.parametrize("kind", [*_library_errors(), OSError, TimeoutError], ids=lambda kind: kind.__name__)
async def test_an_error_while_connecting_is_safe(kind: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    told: type[BaseException] = type(kind.__name__, (kind,), {"__str__": lambda _: "away"})

    async def connect(*_: object) -> None:
        raise told.__new__(told)

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)
    transport = http.AiohttpTransport()
    with pytest.raises(SAFE):
        await transport.open("POST", "http://nowhere.invalid/v1", [], b"{}", 1.0)
    await transport.aclose()


@pytest.mark.parametrize("url", ["ftp://host/x", "http:///x", "/x", "unix:/x"])
async def test_an_address_that_is_no_http_is_not_called(url: str) -> None:
    with pytest.raises(http.UnsupportedProtocol):
        await http.AiohttpTransport().open("POST", url, [], b"{}", 1.0)


@pytest.mark.parametrize("field", [(b"x", b"1\r\ny: 2"), (b"x\n", b"1"), (b"x", b"1\r")])
async def test_a_field_that_would_become_two_is_not_sent(field: tuple[bytes, bytes], backend: Backend) -> None:
    transport = http.AiohttpTransport(private=True)
    with pytest.raises(ValueError, match="line end"):
        await transport.open("POST", backend.url, [field], b"{}", 1.0)
    assert not backend.requests


@pytest.mark.parametrize(("method", "length"), [("POST", "0"), ("GET", None)])
async def test_a_request_without_a_body_says_so_where_it_could_have_one(
    method: str, length: str | None, backend: Backend
) -> None:
    transport = http.AiohttpTransport(private=True)
    backend.answer = play.json_answer({})
    stream = await transport.open(method, f"{backend.url}/x?a=b%2Fc", [], b"", 1.0)
    assert await stream.read() == b"{}"
    (seen,) = backend.requests
    assert (seen.method, seen.path, seen.header("content-length")) == (method, "/v1/x?a=b%2Fc", length)
    await transport.aclose()


async def test_what_could_not_be_read_is_not_quoted(backend: Backend) -> None:
    backend.answer = [b"HTTP/1.1 200 OK\r\na secret answer\r\n\r\n"]
    transport = http.AiohttpTransport(private=True)
    with pytest.raises(http.RemoteProtocolError) as caught:
        await transport.handle_async_request(http.Request("POST", backend.url))
    assert "secret" not in str(caught.value)
    await transport.aclose()

"""HTTP under the gateway: our own exchange over connections of aiohttp's pool, told in httpx's words.

The only file that imports httpx (so a move to its continuation is one line) and the only one that imports aiohttp, of
which it takes the connecting: pool, names, addresses, TLS. It is a transport: one request out, one response head back,
the body pulled piece by piece. It decides nothing: no retry, no redirect, no cookie, no proxy from the environment, no
decoding. ``ConnectTimeout`` and ``ConnectError`` mean that no byte of the request was sent; every other error may come
after.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, NamedTuple

import aiohttp
import yarl
from httpx import (
    AsyncBaseTransport,
    AsyncByteStream,
    ByteStream,
    ConnectError,
    ConnectTimeout,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    Request,
    Response,
    TransportError,
    UnsupportedProtocol,
)

from gateway.idle import Idle, Lent
from gateway.sockets import sockets
from gateway.stored import Source
from gateway.wire import Broken, Exchange, Headers, Lost, Sink, Wire

__all__ = [
    "AiohttpTransport",
    "BodyStream",
    "Broken",
    "ByteStream",
    "ConnectError",
    "ConnectTimeout",
    "Lost",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Sink",
    "TransportError",
    "UnsupportedProtocol",
]

DETAIL_CHARS_MAX = 300
_BODILESS = ("GET", "HEAD")  # without a body they have no length to tell


class AiohttpTransport(AsyncBaseTransport):
    """One connection pool for the whole process; no state that a caller could leave to the next one.

    ``connections_max`` bounds the sockets of this process (0: no bound; waiting for a free one counts as connecting).
    ``keepalive_s`` is how long an idle socket is kept: shorter than the five seconds after which uvicorn-based backends
    close theirs, because a request written into a closing socket cannot be told from one that was executed.
    ``private`` is whether it may connect to addresses of private networks.
    """

    def __init__(
        self,
        *,
        connections_max: int = 0,
        keepalive_s: float = 4.0,
        verify: ssl.SSLContext | bool = True,
        private: bool = False,
    ) -> None:
        self._private = private
        self._connections_max = connections_max
        self._keepalive_s = keepalive_s
        self._verify = verify
        self._connector: _Connector | None = None
        self._places: dict[str, aiohttp.ClientRequest] = {}
        self._idle = Idle(keepalive_s)

    async def open(
        self, method: str, url: str, headers: Headers, body: bytes | Source, connect_s: float | None
    ) -> Exchange:
        """Send the request and return when the response head is here. ``url`` is absolute, its path and query encoded.

        Raises ConnectTimeout, ConnectError, UnsupportedProtocol, where nothing was sent; else Broken or Lost.
        Cancelling closes the socket at once.
        """
        place = _place(url)
        head = _head(method, place, headers, len(body))
        lent = self._idle.take(place.server) or await self._connected(place, connect_s)
        exchange = lent.wire.ask(head, body, lent.release)
        await exchange.head()
        return exchange

    async def handle_async_request(self, request: Request) -> Response:
        """The same for httpx: the body is a ``BodyStream``.

        ``request.extensions["timeout"]`` may hold ``connect`` and ``read`` in seconds; nothing else is timed here.
        """
        timeout = request.extensions.get("timeout", {})
        body = await request.aread()
        headers = [(name, value) for name, value in request.headers.raw if name.lower() not in _OURS]
        read_s = timeout.get("read")
        try:
            async with asyncio.timeout(read_s):
                exchange = await self.open(request.method, str(request.url), headers, body, timeout.get("connect"))
        except (Broken, Lost) as exc:
            raise _translated(exc) from exc
        except TimeoutError:
            raise ReadTimeout("the response did not begin in time") from None
        return Response(exchange.status, headers=exchange.headers, stream=BodyStream(exchange, read_s))

    async def aclose(self) -> None:
        """Close every socket. The transport opens a new pool if it is used again."""
        connector, self._connector = self._connector, None
        self._idle.close()
        self._places.clear()
        if connector is not None:
            await connector.close()

    async def _connected(self, place: _Place, connect_s: float | None) -> Lent:
        connector = self._connector or self._open()
        request = self._places.get(place.server)
        if request is None:
            # What aiohttp's pool wants to know of a request: where it goes.
            request = self._places[place.server] = aiohttp.ClientRequest("GET", place.url, loop=connector._loop)
        try:
            connection = await connector.connect(request, [], _client_timeout(connect_s))
        except TimeoutError as exc:
            raise ConnectTimeout("the connection was not made in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ConnectError(f"{type(exc).__name__}: {exc}"[:DETAIL_CHARS_MAX]) from exc
        # Where sockets are counted, an idle one must be free for another server.
        return Lent(connection, place.server, None if self._connections_max else self._idle)

    def _open(self) -> _Connector:
        # On first use, not in the constructor: aiohttp binds its connector to the running loop.
        self._connector = _Connector(
            limit=self._connections_max,
            keepalive_timeout=self._keepalive_s,
            ssl=self._verify,
            socket_factory=sockets(private=self._private),
        )
        return self._connector


class BodyStream(AsyncByteStream):
    """The body of one response for httpx, pulled as it arrives. ``read_s`` is how long one read may wait."""

    def __init__(self, exchange: Exchange, read_s: float | None = None) -> None:
        self._exchange = exchange
        self._read_s = read_s

    async def read(self) -> bytes:
        """The bytes that have arrived, waiting for some; ``b""`` at the proper end.

        Raises ReadError when the body ends before its framing says so, RemoteProtocolError when the framing is broken,
        ReadTimeout; what came before the break is given out first. Any error and any cancelling closes the socket.
        """
        try:
            async with asyncio.timeout(self._read_s):
                return await self._exchange.read()
        except (Broken, Lost) as exc:
            raise _translated(exc) from exc
        except TimeoutError:
            raise ReadTimeout("nothing came in time") from None

    def abort(self) -> None:
        """Close the socket now, dropping what is buffered in either direction; after the end it does nothing."""
        self._exchange.abort()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def aclose(self) -> None:
        self.abort()


class _Connector(aiohttp.TCPConnector):
    """aiohttp's pool, of our own connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = Wire  # type: ignore[assignment]  # it has all that a pool asks of a connection


class _Place(NamedTuple):
    """Where a request goes: which server, and the words of it in the request."""

    url: yarl.URL
    server: str
    line: bytes  # the target of the request's first line, and the field that names the server


@lru_cache(maxsize=1024)
def _place(url: str) -> _Place:
    """A URL taken apart once: a gateway calls few addresses. Raises UnsupportedProtocol."""
    parts = yarl.URL(url, encoded=True)
    if parts.scheme not in ("http", "https") or not parts.raw_host:
        raise UnsupportedProtocol(f"not an address to be called: {parts.scheme}")
    line = f"{parts.raw_path_qs} HTTP/1.1\r\nhost: {parts.host_port_subcomponent}\r\n"
    return _Place(parts, f"{parts.scheme}://{parts.host_port_subcomponent}", line.encode("ascii"))


_OURS = (b"host", b"content-length", b"transfer-encoding", b"connection")


def _head(method: str, place: _Place, headers: Headers, length: int) -> bytes:
    """The request's head. Raises ValueError where a field would become two."""
    fields = b"\r\n".join([*map(b": ".join, headers), b""])
    count = len(headers) + 3
    if length or method not in _BODILESS:
        fields += b"content-length: %d\r\n" % length
        count += 1
    head = b"%b %b%b\r\n" % (method.encode("ascii"), place.line, fields)
    if head.count(b"\n") != count or head.count(b"\r") != count:
        raise ValueError("a header holds a line end")
    return head


@lru_cache(maxsize=64)
def _client_timeout(connect_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s)


def _translated(exc: Broken | Lost) -> TransportError:
    return (RemoteProtocolError if isinstance(exc, Broken) else ReadError)(str(exc))

"""HTTP under the gateway: httpx's request and response types, carried by aiohttp's connection pool.

The only file that imports httpx (so a move to its continuation is one line) and the only one that imports aiohttp. It
is a transport: one request out, one response head back, the body pulled piece by piece. It decides nothing: no retry,
no redirect, no cookie, no proxy from the environment, no decoding. What aiohttp raises is told here in httpx's words:
``ConnectTimeout`` and ``ConnectError`` mean that no byte of the request was sent; every other error may come after.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import aiohttp
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, TransferEncodingError
from httpx import (
    URL,
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

from gateway.stored import Source

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

__all__ = [
    "AiohttpTransport",
    "BodyStream",
    "ByteStream",
    "ConnectError",
    "ConnectTimeout",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "Response",
    "SourceStream",
    "TransportError",
    "UnsupportedProtocol",
    "address",
]

HEAD_FIELD_BYTES_MAX = 65_536  # one header line; some backends answer with a policy or a trace of 10 kB
HEAD_FIELDS_MAX = 128
READ_BUFFER_BYTES = 65_536  # reading from the socket stops at twice this until the caller takes something
SEND_SLICE_BYTES = 131_072
DETAIL_CHARS_MAX = 300
BODY_AS_ONE_BYTES_MAX = 1 << 20  # above it aiohttp warns about a blocked loop when it is handed plain bytes


class AiohttpTransport(AsyncBaseTransport):
    """One connection pool for the whole process; no state that a caller could leave to the next one.

    ``connections_max`` bounds the sockets of this process (0: no bound; waiting for a free one counts as connecting).
    ``keepalive_s`` is how long an idle socket is kept: shorter than the five seconds after which uvicorn-based backends
    close theirs, because a request written into a closing socket cannot be told from one that was executed.
    """

    def __init__(
        self, *, connections_max: int = 0, keepalive_s: float = 4.0, verify: ssl.SSLContext | bool = True
    ) -> None:
        self._connections_max = connections_max
        self._keepalive_s = keepalive_s
        self._verify = verify
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: Request) -> Response:
        """Send the request and return when the response head is here; the body is a ``BodyStream``.

        ``request.extensions["timeout"]`` may hold ``connect`` and ``read`` in seconds; nothing else is timed here.
        Raises ConnectTimeout, ConnectError, ReadTimeout, ReadError, RemoteProtocolError, UnsupportedProtocol.
        Cancelling closes the socket at once.
        """
        timeout = request.extensions.get("timeout", {})
        try:
            response = await self._open_session().request(
                request.method,
                _wire_url(str(request.url)),
                headers=_decoded(request),
                data=await _sendable(request),
                timeout=_client_timeout(timeout.get("connect"), timeout.get("read")),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as exc:
            raise _translated(exc) from exc
        return Response(response.status, headers=list(response.raw_headers), stream=BodyStream(response))

    async def aclose(self) -> None:
        """Close every socket. The transport opens a new pool if it is used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        # On first use, not in the constructor: aiohttp binds its connector to the running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(
                    limit=self._connections_max, keepalive_timeout=self._keepalive_s, ssl=self._verify
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
                response_class=_Response,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=HEAD_FIELD_BYTES_MAX,
                max_field_size=HEAD_FIELD_BYTES_MAX,
                max_headers=HEAD_FIELDS_MAX,
            )
        return self._session


class BodyStream(AsyncByteStream):
    """The body of one response, pulled as it arrives; nothing is read ahead beyond the buffer above."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._protocol = _protocol_of_unframed(response)
        self._aborted = False

    async def read(self) -> bytes:
        """The bytes that have arrived, waiting for some; ``b""`` at the proper end.

        Raises ReadError when the body ends before its framing says so, RemoteProtocolError when the framing is broken,
        ReadTimeout; what came before the break is given out first. Any error and any cancelling closes the socket.
        """
        try:
            piece = await self._response.content.readany()
            if not piece:
                self._check_end()
            return piece
        except (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError) as exc:
            # RuntimeError is what aiohttp says when its pool was closed under a reader.
            if rest := self._buffered():
                return rest
            self.abort()
            raise _translated(exc) from exc
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Close the socket now, dropping what is buffered in either direction; after the end it does nothing."""
        self._aborted = True
        self._response.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def aclose(self) -> None:
        self.abort()

    def _buffered(self) -> bytes:
        # aiohttp raises before it gives out what it holds, and the last piece of a stream is the one with the usage.
        return b"" if self._aborted else self._response.content._read_nowait(-1)

    def _check_end(self) -> None:
        # A body that ends with its connection (RFC 9112 §6.3, 8) looks complete to the parser even after a reset.
        lost = self._protocol.exception() if self._protocol is not None else None
        if isinstance(lost, aiohttp.ClientOSError):
            raise lost


class _Response(aiohttp.ClientResponse):
    """Closes by aborting: a plain close would first wait for a stalled backend to take the rest of our request."""

    def close(self) -> None:
        transport = self.connection.transport if self.connection is not None else None
        if transport is not None:
            transport.abort()
        super().close()


class _Protocol(ResponseHandler):
    """Tells the reader of a body that its framing broke; aiohttp tells only who waits for a head: a body would hang."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(exc)


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]  # partial is invariant


class SourceStream(AsyncByteStream):
    """A request body that this transport reads while it sends it."""

    def __init__(self, source: Source) -> None:
        self.source = source


class _LargeBody(aiohttp.payload.Payload):
    """A request body written in slices: other calls get their turn between them, and a source is read no faster than
    the backend takes it."""

    def __init__(self, value: bytes | Source) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        size, value = len(self._value), self._value
        for start in range(0, size, SEND_SLICE_BYTES):
            end = min(start + SEND_SLICE_BYTES, size)
            piece = memoryview(value)[start:end] if isinstance(value, bytes) else await value.read(start, end)
            await writer.write(piece)


async def _sendable(request: Request) -> bytes | _LargeBody | None:
    if isinstance(request.stream, SourceStream):
        return _LargeBody(request.stream.source)
    body = await request.aread()
    return _LargeBody(body) if len(body) > BODY_AS_ONE_BYTES_MAX else body or None


def _decoded(request: Request) -> list[tuple[str, str]]:
    encoding = request.headers.encoding
    return [(name.decode("ascii"), value.decode(encoding)) for name, value in request.headers.raw]


@lru_cache(maxsize=1024)
def address(url: str) -> URL:
    """A URL parsed once: parsing costs a third of a small call, and a gateway calls few addresses."""
    return URL(url)


@lru_cache(maxsize=1024)
def _wire_url(url: str) -> yarl.URL:
    return yarl.URL(url, encoded=True)


@lru_cache(maxsize=64)
def _client_timeout(connect_s: float | None, read_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s)


def _protocol_of_unframed(response: aiohttp.ClientResponse) -> ResponseHandler | None:
    headers = response.headers
    framed = "content-length" in headers or "transfer-encoding" in headers
    # Only for an unframed body: the protocol of a framed one may serve another call by the time we look.
    return None if framed or response.connection is None else response.connection.protocol


# The first match counts: aiohttp's classes inherit from each other. DNS and TLS errors are ClientConnectorError.
_WORDS: tuple[tuple[type[BaseException], type[TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, ConnectTimeout),
    (aiohttp.ServerTimeoutError, ReadTimeout),
    (aiohttp.ClientConnectorError, ConnectError),
    (aiohttp.InvalidURL, UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, UnsupportedProtocol),
    (aiohttp.ClientResponseError, RemoteProtocolError),
    (HttpProcessingError, RemoteProtocolError),
)


def _translated(exc: BaseException) -> TransportError:
    return _word_for(exc)(_detail(exc))


def _word_for(exc: BaseException) -> type[TransportError]:
    """The httpx error that says what is known about this failure; ReadError where nothing better is."""
    if isinstance(exc, aiohttp.ClientPayloadError) and _is_malformed(exc.__cause__):
        return RemoteProtocolError
    return next((ours for foreign, ours in _WORDS if isinstance(exc, foreign)), ReadError)


def _detail(exc: BaseException) -> str:
    # A parser quotes what it could not read, which may be an answer's text: of its complaints only the name is kept.
    if isinstance(exc, (aiohttp.ClientResponseError, HttpProcessingError)):
        return f"{type(exc).__name__} ({type(exc.__cause__).__name__})"
    return f"{type(exc).__name__}: {exc}"[:DETAIL_CHARS_MAX]


def _is_malformed(cause: Any) -> bool:
    """Whether a broken body was broken by wrong framing, not by ending early.

    For chunks aiohttp has one class for both; the early end is the one without a parser error behind it.
    """
    if isinstance(cause, ContentLengthError):
        return False
    if isinstance(cause, TransferEncodingError):
        return cause.__cause__ is not None
    return isinstance(cause, HttpProcessingError)

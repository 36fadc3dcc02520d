"""One connection to a backend: HTTP/1.1 over a transport that was connected elsewhere, one exchange at a time.

llhttp parses; here are its bounds, the body's way in either direction, and what an end of the connection means. Knows
no pool, no address and no library that makes requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

from gateway.stored import Source

Headers = list[tuple[bytes, bytes]]
Sink = Callable[[bytes], bool]
"""Takes a piece of a body at once. False: it has enough for now."""

HEAD_BYTES_MAX = 262_144
HEAD_FIELD_BYTES_MAX = 65_536  # one header line; some backends answer with a policy or a trace of 10 kB
HEAD_FIELDS_MAX = 128
READ_BUFFER_BYTES = 131_072  # reading from the socket stops above it until the caller takes something
SEND_SLICE_BYTES = 131_072
BODY_AS_ONE_BYTES_MAX = 1 << 20  # a longer one is sent in slices: other calls get their turn between them
_WITHOUT_BODY = (204, 304)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


class Broken(Exception):
    """What came is no HTTP. Never quotes it: it may be an answer's text."""


class Lost(Exception):
    """The connection ended before the reply did."""


class Exchange:
    """One request and its reply: the head once it is here (names in lower case), the body on demand or as it comes.

    ``release`` is told when the connection can serve somebody else (True), or is not to be used again.
    """

    __slots__ = (
        "_ended",
        "_error",
        "_loop",
        "_sink",
        "_waiter",
        "_wire",
        "headers",
        "pieces",
        "release",
        "size",
        "status",
    )

    def __init__(self, wire: Wire, release: Callable[[bool], None]) -> None:
        self.status = 0  # 0: the head has not come
        self.headers: Headers = []
        self.pieces: list[bytes] = []  # what has come of the body and nobody has taken
        self.size = 0  # of these
        self.release = release
        self._wire: Wire | None = wire  # None once this exchange is over
        self._loop = wire.loop
        self._ended = False
        self._error: Exception | None = None
        self._sink: Sink | None = None  # takes what comes while somebody waits in ``flow``
        self._waiter: asyncio.Future[bool] | None = None  # True: the sink has enough

    async def head(self) -> None:
        """Return when the head is here. Raises Broken or Lost. Cancelling closes the socket at once."""
        while not self.status and self._error is None:
            await self._news()
        if self._error is not None and not self.status:
            raise self._error

    async def read(self) -> bytes:
        """What has come of the body, waiting for some; ``b""`` at its proper end. Raises Broken or Lost, after what
        came before. Cancelling closes the socket at once."""
        while not self.pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._news()
        return self._taken()

    def whole(self) -> bytes | None:
        """What nobody has taken of the body, where all of it is here; None while more is to come, or was lost."""
        return self._taken() if self._ended else None

    async def flow(self, sink: Sink) -> bool:
        """Hand each piece of the body to ``sink`` in the step in which it comes; True once the sink has enough, False
        at the body's proper end. Raises Broken or Lost, after what came before, and what the sink raises. Cancelling
        closes the socket at once."""
        while True:
            if self.pieces:
                if not sink(self._taken()):
                    return True
            elif self._error is not None:
                raise self._error
            elif self._ended:
                return False
            elif await self._news(sink):
                return True

    def abort(self) -> None:
        """Close the socket now and let go of what is buffered; after the end it does nothing."""
        self.pieces = []
        if self._wire is not None:
            self._wire.end(Lost("closed"))

    # For the wire -------------------------------------------------------------------------------------------------

    def arrived(self) -> None:
        """All that one read of the socket gave of the body is here."""
        waiter, sink = self._waiter, self._sink
        if waiter is None or waiter.done():
            return
        if sink is None:
            waiter.set_result(False)
            return
        try:
            if not sink(self._taken()):
                waiter.set_result(True)
        except Exception as error:
            waiter.set_exception(error)

    def over(self, error: Exception | None) -> None:
        """The last there is to say: all of the reply has come, or what kept it from coming."""
        self._wire, self._ended, self._error = None, error is None, error
        self.wake()

    def wake(self) -> None:
        """Something has come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    async def _news(self, sink: Sink | None = None) -> bool:
        self._waiter, self._sink = self._loop.create_future(), sink
        try:
            return await self._waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiter = self._sink = None

    def _taken(self) -> bytes:
        pieces, size = self.pieces, self.size
        if len(pieces) == 1 and size <= READ_BUFFER_BYTES:
            self.size = 0
            return pieces.pop()
        self.pieces, self.size = [], 0
        if size > READ_BUFFER_BYTES and self._wire is not None:
            self._wire.go_on()
        return b"".join(pieces)


class Wire(asyncio.Protocol):
    """The connection. What a pool asks of it: ``transport``, ``is_connected``, ``should_close``, ``close``, ``abort``,
    ``closed``."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)
        self._exchange: Exchange | None = None
        self._head_bytes = 0
        self._interim = False  # a head of the hundreds, which another one follows
        self._unframed = False  # the body ends with the connection
        self._paused = False
        self._sending: asyncio.Task[None] | None = None
        self._may_write: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None

    def ask(self, head: bytes, body: bytes | Source, release: Callable[[bool], None]) -> Exchange:
        """Send a request; its reply comes to the exchange."""
        transport = self.transport
        exchange = self._exchange = Exchange(self, release)
        self._head_bytes, self._interim, self._unframed = 0, False, False
        if transport is None:
            self.end(Lost("closed"))
        elif isinstance(body, bytes) and len(body) <= BODY_AS_ONE_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.write(head)
            self._sending = asyncio.create_task(self._send(body))
        return exchange

    def end(self, error: Exception | None) -> None:
        """The exchange is over; its connection can serve another one only if nothing is left of this one."""
        exchange, self._exchange = self._exchange, None
        # A backend that answers before it has all of the request may never take the rest of it, nor what would come
        # behind it.
        sent = self._sending is None or self._sending.done()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if exchange is not None:
            again = error is None and sent and not self._unframed and bool(self._parser.should_keep_alive())
            again = again and self.transport is not None and not self.transport.get_write_buffer_size()
            if not again:
                self.abort()
            exchange.over(error)
            exchange.release(again)

    def go_on(self) -> None:
        """The caller has taken what waited: read on."""
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    # For the pool -------------------------------------------------------------------------------------------------

    @property
    def should_close(self) -> bool:
        """Whether it cannot serve another exchange."""
        return self._exchange is not None or self.transport is None or self._paused

    def is_connected(self) -> bool:
        """Whether it can still be spoken over."""
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        """As abort: a plain close would first wait for a stalled backend to take the rest of our request."""
        self.abort()

    def abort(self) -> None:
        """Close the socket now."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def closed(self) -> asyncio.Future[None] | None:
        """Done when the socket is closed; None where it is already."""
        if self.transport is None:
            return None
        if self._gone is None:
            self._gone = self.loop.create_future()
        return self._gone

    # For the transport --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Its end: the proper one of a body without framing, and of nothing else."""
        self.transport = None
        if self._may_write is not None and not self._may_write.done():
            self._may_write.set_result(None)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if self._exchange is not None:
            proper = self._unframed and self._exchange.status and exc is None
            self.end(None if proper else Lost(type(exc).__name__ if exc else "the backend closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Some of the reply. What comes unasked ends the connection: the next call would take it for its own."""
        exchange = self._exchange
        if exchange is None:
            return self.abort()
        status = exchange.status
        if not status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if not status and not exchange.status and self._head_bytes > HEAD_BYTES_MAX:
                raise Broken("the head is too large")
        except (httptools.HttpParserError, Broken) as exc:
            self._broke(exc)
        if exchange.pieces:
            exchange.arrived()
        elif not status:
            exchange.wake()

    def pause_writing(self) -> None:
        """The backend takes no more for now."""
        self._may_write = self.loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        if self._may_write is not None and not self._may_write.done():
            self._may_write.set_result(None)

    # For the parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Another reply than the one that was asked for is none of ours."""
        if self._exchange is None:
            raise Broken("more came than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, its name in lower case; those behind the body are read past."""
        exchange = self._exchange
        if exchange is None or exchange.status:
            return
        if len(name) + len(value) > HEAD_FIELD_BYTES_MAX or len(exchange.headers) >= HEAD_FIELDS_MAX:
            raise Broken("the head is too large")
        exchange.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is here."""
        exchange = self._exchange
        assert exchange is not None  # it began a message
        status = self._parser.get_status_code()
        if status == 101:
            raise Broken("the backend switches protocols")
        if status < 200:
            exchange.headers, self._interim = [], True
            return
        exchange.status = status
        self._unframed = status not in _WITHOUT_BODY and _FRAMING.isdisjoint(dict(exchange.headers))

    def on_body(self, body: bytes) -> None:
        """A piece of the body; the exchange hears of it when all of this read is parsed."""
        exchange = self._exchange
        if exchange is None:
            return
        exchange.pieces.append(body)
        exchange.size += len(body)
        if exchange.size > READ_BUFFER_BYTES and not self._paused:
            self._paused = True
            assert self.transport is not None  # data has just come
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """All of the reply has come."""
        if self._interim:
            self._interim = False
        else:
            if self._paused:
                self.go_on()
            self.end(None)

    # Sending ------------------------------------------------------------------------------------------------------

    async def _send(self, body: bytes | Source) -> None:
        """A large body, no faster than the backend takes it."""
        try:
            for start in range(0, len(body), SEND_SLICE_BYTES):
                end = min(start + SEND_SLICE_BYTES, len(body))
                piece = memoryview(body)[start:end] if isinstance(body, bytes) else await body.read(start, end)
                if self.transport is None:
                    return
                self.transport.write(piece)
                await self._room()
        except Exception as error:
            self.end(Lost(f"{type(error).__name__}: {error}"))

    async def _room(self) -> None:
        if self._may_write is None:
            return await asyncio.sleep(0)
        await self._may_write
        self._may_write = None

    def _broke(self, exc: Exception) -> None:
        cause: Any = exc.__context__ if isinstance(exc, httptools.HttpParserCallbackError) else exc
        self.end(cause if isinstance(cause, Broken) else Broken(type(exc).__name__))
        self.abort()

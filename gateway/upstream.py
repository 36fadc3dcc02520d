"""The only door to the backends: a call goes out here, its reply comes back piece by piece.

No retry and no timer besides the one for connecting: the caller owns the clock of a call (first byte, idle, total) and
cancels or closes; whichever it does, the backend's socket is closed at once. What the transport raises becomes one
``UpstreamFailure``, which says what happened and whether the backend can have seen the request.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Literal, Protocol

from gateway import http
from gateway.http import Sink
from gateway.stored import Source
from gateway.target import Target

__all__ = ["FailureKind", "Reply", "Target", "TooLarge", "UpstreamFailure", "Upstreams"]

FailureKind = Literal[
    "connect",
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "total_timeout",
    "protocol",
    "reset",
    "too_large",
    "encoding",
]
Headers = list[tuple[bytes, bytes]]

_SAFE: frozenset[FailureKind] = frozenset(("connect", "connect_timeout"))
_READ = (b"content-type", b"content-encoding", b"transfer-encoding")  # fields of a reply, all values as one list
_READABLE = tuple((content, transfer) for content in (b"", b"identity") for transfer in (b"", b"chunked"))
_FAILURES = (http.TransportError, http.Broken, http.Lost)
_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (http.ConnectTimeout, "connect_timeout"),
    (http.ConnectError, "connect"),
    (http.UnsupportedProtocol, "connect"),
    (http.ReadTimeout, "idle_timeout"),
    (http.RemoteProtocolError, "protocol"),
    (http.Broken, "protocol"),
)


class UpstreamFailure(Exception):
    """The backend failed. ``detail`` is for the log: it may hold its address and must not reach a caller."""

    def __init__(self, kind: FailureKind, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind: FailureKind = kind
        self.detail = detail

    @property
    def safe_to_retry(self) -> bool:
        """True only where no byte of the request left: a second try cannot be paid twice."""
        return self.kind in _SAFE


class TooLarge(UpstreamFailure):
    """A reply that had to be read whole is longer than its bound."""

    def __init__(self, limit: int) -> None:
        super().__init__("too_large", f"the reply is longer than {limit} bytes")


class Body(Protocol):
    """Where the body of a response comes from. Raises what the transport raises."""

    async def read(self) -> bytes: ...

    def whole(self) -> bytes | None: ...

    async def flow(self, sink: Sink) -> bool: ...

    def abort(self) -> None: ...


class Reply:
    """A response whose head has come: status, headers (names in lower case), and the body on demand.

    Read it to the end or ``close()`` it. What is neither read nor taken by the sink of ``flow`` stays with the backend,
    apart from a buffer of some 128 KiB.
    """

    __slots__ = ("_body", "content_type", "encodings", "headers", "is_event_stream", "status")

    def __init__(self, status: int, headers: Headers, body: Body) -> None:
        self.status = status
        self.headers = headers
        said = dict.fromkeys(_READ, b"")
        for name, value in headers:
            if name in said:
                said[name] = b"%b, %b" % (said[name], value) if said[name] else value
        content_type, encoding, transfer = said.values()
        self.content_type = content_type.decode("latin-1")
        self.encodings = encoding.strip().lower(), transfer.strip().lower()  # of the content and of the transfer
        media_type = self.content_type.partition(";")[0].strip().lower()
        self.is_event_stream = media_type == "text/event-stream"
        self._body = body

    async def read(self) -> bytes:
        """The next piece as it came; ``b""`` at the proper end. Raises UpstreamFailure (reset, protocol)."""
        try:
            return await self._body.read()
        except _FAILURES as exc:
            raise _failure(exc) from exc

    async def flow(self, sink: Sink) -> bool:
        """Hand each piece to ``sink`` in the step in which it comes, until the sink has enough: True. False at the
        proper end. Raises UpstreamFailure (reset, protocol) and what the sink raises."""
        try:
            return await self._body.flow(sink)
        except _FAILURES as exc:
            raise _failure(exc) from exc

    async def read_all(self, limit: int, arrived: Callable[[], None] = lambda: None) -> bytes:
        """The whole body of at most ``limit`` bytes; ``arrived`` hears of each piece that is waited for. Raises
        TooLarge (and closes), UpstreamFailure."""
        whole = self._body.whole()
        if whole is not None:
            if len(whole) > limit:
                raise TooLarge(limit)
            return whole
        pieces: list[bytes] = []
        room = limit
        try:
            while piece := await self._body.read():
                arrived()
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    self.close()
                    raise TooLarge(limit)
        except _FAILURES as exc:
            raise _failure(exc) from exc
        return b"".join(pieces)

    def close(self) -> None:
        """Abort: the socket closes now and a pending ``read`` fails. After the end, or twice, it does nothing."""
        self._body.abort()


class Upstreams:
    """Every connection of this process to every backend. One per process; nothing in it belongs to a user.

    Backends that may lie in a private network have connections of their own: none is lent to one that may not.
    """

    def __init__(
        self, *, connections_max: int = 0, keepalive_s: float = 4.0, verify: ssl.SSLContext | bool = True
    ) -> None:
        self._transports = {
            private: http.AiohttpTransport(
                connections_max=connections_max, keepalive_s=keepalive_s, verify=verify, private=private
            )
            for private in (False, True)
        }

    async def open(
        self,
        target: Target,
        *,
        path: str,
        body: bytes | Source,
        headers: Headers,
        connect_timeout_s: float,
        method: str = "POST",
    ) -> Reply:
        """Send one request to ``target`` and return when the head of its reply is here.

        ``path`` is below the target's base (``/chat/completions``); a ``body`` that is no bytes is read as the backend
        takes it, and no more after the reply's end; ``headers`` are sent as they are, so they come from
        `headers.to_upstream`. Raises UpstreamFailure. Cancelling closes the socket at once.
        """
        transport = self._transports[target.allow_private]
        try:
            exchange = await transport.open(method, target.base_url + path, headers, body, connect_timeout_s)
        except _FAILURES as exc:
            raise _failure(exc) from exc
        reply = Reply(exchange.status, exchange.headers, exchange)
        if reply.encodings not in _READABLE:
            reply.close()
            raise _unreadable(*reply.encodings)
        return reply

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        for transport in self._transports.values():
            await transport.aclose()


def _unreadable(encoding: bytes, transfer: bytes) -> UpstreamFailure:
    return UpstreamFailure("encoding", f"content-encoding {encoding!r}, transfer-encoding {transfer!r}")


def _failure(exc: Exception) -> UpstreamFailure:
    for foreign, kind in _KINDS:
        if isinstance(exc, foreign):
            return UpstreamFailure(kind, str(exc))
    return UpstreamFailure("reset", str(exc))

"""One caller's connection: uvicorn's, with the bounds that it leaves to a proxy in front.

A head has a length and a time in which to come; so has what comes after a reply that did not wait for its request's
end. Fields behind a chunked body are read past: taken for headers they would slip by whoever checks headers in front.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from farebox.cycle import Cycle
from gateway.downstream import WRITE

_HEAD_S = 30.0
_HEAD_BYTES_MAX = 65_536
_VERSIONS = ("1.0", "1.1")
_EXTENSIONS: dict[str, dict[object, object]] = {WRITE: {}}
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 26\r\nconnection: close\r\n\r\nThe headers are too large."
)


class Connection(HttpToolsProtocol):
    """As uvicorn makes one for each connection."""

    _pending = 0  # bytes that came since the parser last had something to show for them
    _deadline: asyncio.TimerHandle | None = None  # runs while no call does and something is to come

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The head of its first request is to come in time."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and see whether it goes on within the bounds."""
        self._pending += len(data)
        super().data_received(data)
        if self._pending > _HEAD_BYTES_MAX:
            self._refuse(_TOO_LARGE)
        elif self._answering():
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """A head is whole. What says to be of no version known here is not guessed at."""
        if self.parser.get_http_version() not in _VERSIONS:
            raise ValueError("the version of the request")
        self._pending = 0
        super().on_headers_complete()
        self.headers = _Past()

    def on_body(self, body: bytes) -> None:
        """Some of a body came; its own bounds are kept by whoever reads it."""
        self._pending = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, but never in the middle of a reply."""
        if self._replying():
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = Cycle  # uvicorn names its class itself, where nobody else can
        cycle.scope["extensions"] = _EXTENSIONS
        super()._start_asgi_task(cycle, app)

    def _refuse(self, reply: bytes) -> None:
        if self._replying():
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(reply)
            self.transport.close()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _replying(self) -> bool:
        return self._answering() and self.cycle.response_started

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(_HEAD_S, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Past(list[tuple[bytes, bytes]]):
    """Keeps nothing."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Let it go."""

"""One caller's connection: uvicorn's, with the bounds that it leaves to a proxy in front.

A head has a length and a time in which to come; so has what comes after a reply that did not wait for its request's
end. Fields behind a chunked body are read past: taken for headers they would slip by whoever checks headers in front.
"""

from __future__ import annotations

import asyncio
import weakref
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from farebox.cycle import Cycle
from gateway.downstream import CALLER, WHOLE, WRITE

_HEAD_S = 30.0
_HEAD_BYTES_MAX = 65_536
_WAITING_MAX = 8  # requests behind a running one; more are not read, and then nobody sees that the caller leaves
_URL_KEPT = 128  # bytes of an address that may be kept for the next who asks for it
_VERSIONS = ("1.0", "1.1")
_NO_HTTP = "Invalid HTTP request received."
_EXTENSIONS: dict[str, object] = {WRITE: {}, WHOLE: {}}
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 26\r\nconnection: close\r\n\r\nThe headers are too large."
)


class Connection(HttpToolsProtocol):
    """As uvicorn makes one for each connection."""

    _base: dict[str, Any]  # what the scopes of its requests have in common
    _pending = 0  # bytes that came since the parser last had something to show for them
    _hurried = False  # the rest of what has begun to come is to come in time
    _due = 0.0  # the loop's time at which it is closed unless something happens; 0: never
    _timer: asyncio.TimerHandle | None = None  # looks whether it is due: one for many requests
    _looks_at = 0.0  # the loop's time at which it does
    _running: Cycle | None = None  # the request that was handed on last: behind it others may wait

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The head of its first request is to come in time."""
        super().connection_made(transport)
        self._base = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
        }
        self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        if self._running is not None:
            self._running.gone()

    def data_received(self, data: bytes) -> None:
        """Parse, and see whether it goes on within the bounds. Nothing is upgraded to."""
        self._pending += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.logger.warning(_NO_HTTP)
            self.send_400_response(_NO_HTTP)
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        if self._pending > _HEAD_BYTES_MAX:
            self._refuse(_TOO_LARGE)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._due, self._hurried = 0.0, False
        elif not self._hurried:
            self._hurry()

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url, self.expect_100_continue, self.headers = b"", False, []

    def on_headers_complete(self) -> None:
        """A head is whole. What says to be of no version known here is not guessed at."""
        parser, headers = self.parser, self.headers
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise ValueError("the version of the request")
        self._pending, self.headers = 0, _PAST
        path, raw_path, query = _known_place(self.url) if len(self.url) <= _URL_KEPT else _place(self.url)
        scope = self._base | {
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": self.app_state.copy(),
        }
        keeps = version != "1.0" and parser.should_keep_alive()
        before, self.cycle = self.cycle, Cycle(self, scope, self.expect_100_continue, keeps)
        if before is None or before.response_complete:
            self._begin(self.cycle)
        else:
            self.pipeline.appendleft((self.cycle, self.app))
            if len(self.pipeline) >= _WAITING_MAX:
                self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        """Some of a body came; its own bounds are kept by whoever reads it."""
        self._pending = 0
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        """A reply has gone: on to the next request, which may be here or has some time to come."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._begin(self.pipeline.pop()[0])
        else:
            self._until(self.loop.time() + self.timeout_keep_alive)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, but never in the middle of a reply."""
        if self._replying():
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _begin(self, cycle: Any) -> None:
        """Hand a request on."""
        self._running = cycle
        cycle.scope["extensions"] = {**_EXTENSIONS, CALLER: weakref.ref(cycle)}  # weak: the scope is the cycle's own
        # The server cancels what is in its tasks when it has waited long enough: a call is then told, not cut off.
        tasks: set[Any] = self.tasks
        tasks.add(cycle)
        cycle.task = self.loop.create_task(cycle.run_asgi(self.app))

    def _refuse(self, reply: bytes) -> None:
        if self._replying():
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(reply)
            self.transport.close()

    def _replying(self) -> bool:
        running = self._running  # not the last one that came: that may wait behind it
        return running is not None and running.response_started and not running.response_complete

    def _hurry(self) -> None:
        self._hurried = True
        self._until(self.loop.time() + _HEAD_S)

    def _until(self, due: float) -> None:
        """Close it then. The timer is let run where it looks no later: calls come by the hundred while it runs once."""
        self._due = due
        if self._timer is not None and self._looks_at > due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._looks_at = due
            self._timer = self.loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._due:
            return
        if self._looks_at >= self._due:
            self.timeout_keep_alive_handler()
        else:
            self._until(self._due)


def _place(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as it came, and query of a request's address."""
    parts = httptools.parse_url(url)
    path: bytes = parts.path
    return unquote(path.decode("ascii")), path, parts.query or b""


_known_place = lru_cache(maxsize=256)(_place)  # callers ask for few


class _Past(list[tuple[bytes, bytes]]):
    """Keeps nothing."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Let it go."""


_PAST = _Past()

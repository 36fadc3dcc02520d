"""One request and its reply on a caller's connection: uvicorn's, with a shorter way in and out.

A reply in one piece may come as one message: its head, with the body under ``farebox.whole``. A stream's pieces may
leave without a message each: who sends ``farebox.write`` behind a head finds ``write`` in it.
Headers come checked from ``gateway/headers.py``; here the whole head is looked at once more instead of every field.
What is not usual goes uvicorn's own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.downstream import WHOLE, WRITE

_BODILESS = (204, 304)


class Line(Protocol):
    """What a cycle asks of its connection, in uvicorn's words."""

    transport: asyncio.Transport
    flow: Any
    logger: Any
    server_state: Any
    tasks: Any

    def on_response_complete(self) -> None: ...


class _Nobody:
    """Stands for the event of a request of which nobody waits to hear."""

    set = staticmethod(bool)  # nobody hears it: does nothing, and without a frame


_NOBODY: Any = _Nobody()


class Cycle(RequestResponseCycle):
    """As uvicorn makes one for each request. The head of a reply whose length is known waits for its body. It is a
    ``gateway.downstream.Caller``, too."""

    task: asyncio.Task[None]
    access_log = False
    message_event = _NOBODY
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0
    _taken = False  # the body was
    _waiting = b""
    _tell: Callable[[], None] | None = None

    def __init__(self, line: Line, scope: dict[str, Any], expects_100_continue: bool, keep_alive: bool) -> None:
        self.scope: Any = scope
        self.transport = line.transport
        self.flow = line.flow
        self.logger = line.logger
        self.default_headers = line.server_state.default_headers
        self.waiting_for_100_continue = expects_100_continue
        self.keep_alive = keep_alive
        self.on_response = line.on_response_complete
        self.body = bytearray()
        self._tasks = line.tasks

    async def run_asgi(self, app: Any) -> None:
        """The whole request. An application that fails or says nothing is an error of ours; one that leaves its reply
        without an end wants it broken off, so that it does not look whole."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_started and not self.disconnected:
                await self._ended_early("ASGI callable returned without a response.")
            elif not self.response_complete and not self.disconnected:
                self.transport.close()
        except BaseException as error:
            await self._ended_early("Exception in ASGI application\n", error)
        finally:
            self.on_response = _nothing
            self._tasks.discard(self)

    async def _ended_early(self, why: str, error: BaseException | None = None) -> None:
        self.logger.error(why, exc_info=error)
        if self.response_started:
            self.transport.close()
        else:
            await self.send_500_response()

    # The caller ---------------------------------------------------------------------------------------------------

    def take_body(self) -> bytes | None:
        """See ``Caller``. Who wants to be asked for a body, or has left, is left to ``receive``."""
        if self.more_body or self.waiting_for_100_continue or self.disconnected:
            return None
        body, self.body, self._taken = bytes(self.body), bytearray(), True
        return body

    async def receive(self) -> Any:
        """A message for the application."""
        if self.message_event is _NOBODY:
            self.message_event = asyncio.Event()
            if self.body or not (self.more_body or self._taken):
                self.message_event.set()
        return await super().receive()

    def when_gone(self, tell: Callable[[], None] | None) -> None:
        """See ``Caller``. That a caller leaves is seen only while its connection is read."""
        self._tell = tell
        if tell is not None:
            if self.flow.read_paused:
                self.flow.resume_reading()
            if self.disconnected:
                self.gone()

    def cancel(self, msg: str | None = None) -> None:
        """End it: who wants to be told that the caller is gone ends by itself, and in good order."""
        if self._tell is not None:
            self._tell()
        else:
            self.task.cancel(msg)

    def gone(self) -> None:
        """The connection is lost."""
        tell, self._tell = self._tell, None
        if self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        if tell is not None:
            tell()

    # The reply ----------------------------------------------------------------------------------------------------

    async def send(self, message: Any) -> None:
        """A message of the application's. Raises RuntimeError for a head that would hold other fields than it says."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or not self._written(message):
            await super().send(message)
        if WHOLE in message and not self.response_complete:
            await self.send({"type": "http.response.body", "body": message[WHOLE]})

    def write(self, piece: bytes) -> bool:
        """A piece of a stream, at once. False: it was not taken, and is for ``send``."""
        if self.flow.write_paused or self.disconnected or self.response_complete:
            return False
        if not (self.chunked_encoding and piece):
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def _written(self, message: Any) -> bool:
        """Whether the message was usual, and has left."""
        kind = message["type"]
        if kind == "http.response.start":
            headers, body = message.get("headers", []), message.get(WHOLE)
            return not self.response_started and self._began(message["status"], headers, body)
        if kind == WRITE:
            message["write"] = self.write
            return True
        if kind != "http.response.body" or self.response_complete:
            return False
        body, more = message.get("body", b""), message.get("more_body", False)
        if more and self.write(body):
            return True
        head, self._waiting = self._waiting, b""
        if head and not more and len(body) == self.expected_content_length:
            self._whole(head + body)
            return True
        if head:
            self.transport.write(head)
        return False

    def _whole(self, reply: bytes) -> None:
        self.transport.write(reply)
        self.expected_content_length, self.response_complete = 0, True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _began(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes | None) -> bool:
        """Whether the head is one for this class to write: it has left, with its whole body where that is given, or
        waits for it."""
        if status in _BODILESS or not self.keep_alive or self.scope["method"] == "HEAD":
            return False
        fields = [*self.default_headers, *headers]
        named = dict(fields)
        if b"connection" in named or b"transfer-encoding" in named or not b"".join(named).islower():
            return False
        length = named.get(b"content-length")
        lines = b"\r\n".join([*map(b": ".join, fields), b""])
        if lines.count(b"\n") != len(fields) or b"\0" in lines:
            raise RuntimeError("a header holds a line end")
        self.response_started, self.waiting_for_100_continue = True, False
        if length is None:
            self.chunked_encoding = True
            self.transport.write(b"%b%btransfer-encoding: chunked\r\n\r\n" % (STATUS_LINE[status], lines))
        else:
            self.chunked_encoding, self.expected_content_length = False, int(length)
            head = b"%b%b\r\n" % (STATUS_LINE[status], lines)
            if body is not None and len(body) == self.expected_content_length:
                self._whole(head + body)
            else:
                self._waiting = head
        return True


def _nothing() -> None:
    """The reply is no longer waited for."""

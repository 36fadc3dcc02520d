"""One request and its reply on a caller's connection: uvicorn's, with a shorter way out for a reply.

A stream's pieces may leave without a message each: who sends ``farebox.write`` behind a head finds ``write`` in it.
Headers come checked from ``gateway/headers.py``; here the whole head is looked at once more instead of every field.
What is not usual goes uvicorn's own way.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.downstream import WRITE

_BODILESS = (204, 304)


class Cycle(RequestResponseCycle):
    """As uvicorn makes one for each request. The head of a reply whose length is known waits for its body."""

    _waiting = b""

    async def send(self, message: Any) -> None:
        """A message of the application's. Raises RuntimeError for a head that would hold other fields than it says."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or not self._written(message):
            await super().send(message)

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
        kind, body = message["type"], message.get("body", b"")
        if kind == "http.response.start" and not self.response_started:
            return self._began(message["status"], message.get("headers", []))
        if kind == WRITE:
            message["write"] = self.write
            return True
        if kind != "http.response.body" or self.response_complete:
            return False
        if message.get("more_body") and self.write(body):
            return True
        head, self._waiting = self._waiting, b""
        if head and len(body) == self.expected_content_length and not message.get("more_body"):
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

    def _began(self, status: int, headers: list[tuple[bytes, bytes]]) -> bool:
        head = self._head(status, headers)
        if head is None:
            return False
        if self.chunked_encoding:
            self.transport.write(head)
        else:
            self._waiting = head
        return True

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """The head as it leaves; None where it is not for this class to write."""
        length: bytes | None = None
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            name = name.lower()
            if name == b"content-length":
                length = value
            elif name in (b"connection", b"transfer-encoding"):
                return None
            lines += (name, b": ", value, b"\r\n")
        if status in _BODILESS or not self.keep_alive or self.scope["method"] == "HEAD":
            return None
        lines.append(b"transfer-encoding: chunked\r\n\r\n" if length is None else b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(headers) + len(self.default_headers) + 2 + (length is None) or b"\0" in head:
            raise RuntimeError("a header holds a line end")
        self.response_started, self.waiting_for_100_continue = True, False
        self.chunked_encoding = length is None
        self.expected_content_length = 0 if length is None else int(length)
        return head

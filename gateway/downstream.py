"""The caller's side of a call: read the body within its bounds, send, notice that the caller has left.

Speaks ASGI (3.0) and nothing of money or backends. What is written to a caller who left vanishes without an error with
some servers and with one at others; both are the same to us, and leaving is learnt from ``receive``, or from a
``Caller`` where the server has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, MutableMapping
from typing import Any, Protocol

from gateway.errors import Refusal
from gateway.language import sentence

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Write = Callable[[bytes], bool]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

WRITE = "farebox.write"
"""The extension of a server whose streams can be written without a message for each piece (docs/architecture.md)."""

WHOLE = "farebox.whole"
"""The extension of a server that takes a reply in one message: its head, with the body under this name."""

CALLER = "farebox.caller"
"""The extension of a server that says of its caller more than ASGI does: in the scope's, a weak reference to a
``Caller``."""

_BODY, _UPLOAD = "body_bytes_max", "upload_bytes_max"  # the bounds, by the names of their settings


class CallerLeft(Exception):
    """The caller closed the connection before its request was whole."""


class Caller(Protocol):
    """A caller as Farebox's own server knows it. Its server cancels no task because a caller leaves. ``task`` is the
    one in which its request is answered."""

    task: asyncio.Task[None]

    def take_body(self) -> bytes | None:
        """The body of the request, once and without waiting; None while not all of it is here."""
        ...

    def when_gone(self, tell: Callable[[], None] | None) -> None:
        """Tell that the caller has left before its reply was complete: when it does, or at once if it has. None:
        nobody wants to know any more."""
        ...


def caller_of(scope: Scope) -> Caller | None:
    """What the server says of its caller; None from a server that speaks plain ASGI."""
    known = scope.get("extensions", {}).get(CALLER)
    return None if known is None else known()


def body_at_hand(caller: Caller | None, named: Container[bytes], bytes_max: int) -> bytes | None:
    """The whole request body where the server has it, without waiting. None: it is still to come, or one of the names
    in its head has to be looked at, and is for ``read_body``. Raises Refusal (request_too_large)."""
    if caller is None or b"content-encoding" in named:
        return None
    body = caller.take_body()
    if body is not None and len(body) > bytes_max:
        raise _too_large(bytes_max, _BODY)
    return body


async def read_body(scope: Scope, receive: Receive, *, bytes_max: int, timeout_s: float) -> bytes:
    """The whole request body. Raises Refusal (request_too_large, request_timeout) or CallerLeft."""
    _check_head(scope, bytes_max, _BODY)
    caller = caller_of(scope)
    body = caller.take_body() if caller is not None else None
    if body is None:
        message = await _receive(receive, timeout_s)
        if message.get("more_body"):
            return await _read_on(message, receive, bytes_max, timeout_s)
        body = bytes(message.get("body", b""))
    if len(body) > bytes_max:
        raise _too_large(bytes_max, _BODY)
    return body


async def _read_on(message: Message, receive: Receive, bytes_max: int, timeout_s: float) -> bytes:
    pieces, size = [message.get("body", b"")], len(message.get("body", b""))
    deadline = asyncio.get_running_loop().time() + timeout_s
    while message.get("more_body"):
        message = await _receive(receive, deadline - asyncio.get_running_loop().time())
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > bytes_max:
            raise _too_large(bytes_max, _BODY)
    return b"".join(pieces)


async def hand_on(
    scope: Scope,
    receive: Receive,
    take: Callable[[bytes], Awaitable[None]],
    *,
    bytes_max: int,
    pause_s: float,
    timeout_s: float,
) -> None:
    """Hand the request body on as it arrives; no more of it comes before ``take`` has returned.

    ``pause_s`` is how long the caller may say nothing, ``timeout_s`` how long all of it may take. Raises Refusal
    (request_too_large, request_timeout), CallerLeft, and what ``take`` raises.
    """
    _check_head(scope, bytes_max, _UPLOAD)
    size, deadline = 0, asyncio.get_running_loop().time() + timeout_s
    while True:
        left = deadline - asyncio.get_running_loop().time()
        message = await _receive(receive, min(pause_s, left))
        piece = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise _too_large(bytes_max, _UPLOAD)
        await take(piece)
        if not message.get("more_body"):
            return


def _check_head(scope: Scope, bytes_max: int, limit: str) -> None:
    """Refuse what the head already tells."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > bytes_max:
            raise _too_large(bytes_max, limit)
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Refusal.of("invalid_request", "Send the request body without compression.", param="content-encoding")


async def _receive(receive: Receive, timeout_s: float) -> Message:
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError:
        raise Refusal.of("request_timeout", sentence("body_slow")) from None
    if message["type"] == "http.disconnect":
        raise CallerLeft
    return message


async def until_gone(receive: Receive) -> None:
    """Return when the caller has left, or when its reply is complete: ASGI tells both the same way."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def write_of(scope: Scope, send: Send) -> Write | None:
    """The server's way to write a piece of the stream that has begun at once, if it has one. It returns False when it
    does not take the piece (the caller reads slowly, or has left): then ``send`` does."""
    if WRITE not in scope.get("extensions", ()):
        return None
    asked: Message = {"type": WRITE}
    await send(asked)
    return asked.get("write")


def send_reply(scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> Awaitable[None]:
    """One whole reply, to be awaited."""
    head: Message = {"type": "http.response.start", "status": status, "headers": headers}
    if WHOLE in scope.get("extensions", ()):
        head[WHOLE] = body
        return send(head)
    return _send_both(send, head, body)


async def _send_both(send: Send, head: Message, body: bytes) -> None:
    await send(head)
    await send({"type": "http.response.body", "body": body})


def _too_large(bytes_max: int, limit: str) -> Refusal:
    return Refusal.of("request_too_large", sentence("body_too_large", limit=bytes_max), limit=limit)

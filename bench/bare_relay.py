"""A relay on Farebox's own stack that does nothing else: what the stack costs before anybody is asked who calls.

The same server with the same settings (`farebox/connection.py`), the same door to the backends (`gateway/upstream.py`),
pieces of a stream pushed in the same way, and between them an endpoint without identity, limits, money, metrics or log.
`python -m bench.bare_relay BACKEND_URL` says where it listens.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvicorn
import uvloop

from farebox.connection import Connection
from farebox.memory import settle
from gateway.downstream import Message, Receive, Scope, Send, write_of
from gateway.headers import to_downstream
from gateway.target import Target
from gateway.upstream import Reply, Upstreams

_BACKLOG = 4096
_CONNECT_S = 5.0
_PREFIX = "/v1"


class Relay:
    """Passes every request to the backend and its reply back, piece by piece."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._upstreams = Upstreams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [pair for pair in scope["headers"] if pair[0] in (b"content-type", b"accept")]
        reply = await self._upstreams.open(
            self._target,
            path=scope["path"].removeprefix(_PREFIX),
            body=await _read(receive),
            headers=headers,
            connect_timeout_s=_CONNECT_S,
            method=scope["method"],
        )
        await _pass_on(reply, scope, send)


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


async def _pass_on(reply: Reply, scope: Scope, send: Send) -> None:
    if reply.is_event_stream:
        return await _stream(reply, scope, send)
    body = await reply.read_all(1 << 30)
    await send(_start(reply, [(b"content-length", b"%d" % len(body))]))
    await send({"type": "http.response.body", "body": body})


async def _stream(reply: Reply, scope: Scope, send: Send) -> None:
    left: list[bytes] = []

    def take(piece: bytes) -> bool:
        if write is None or not write(piece):
            left.append(piece)
        return not left

    await send(_start(reply, []))
    write = await write_of(scope, send)
    while await reply.flow(take):
        await send({"type": "http.response.body", "body": left.pop(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _start(reply: Reply, more: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": reply.status, "headers": to_downstream(reply.headers, more)}


async def serve(backend_url: str) -> None:
    """Serve until SIGTERM."""
    relay = Relay(Target.of("bench", backend_url, allow_private=True))
    config = uvicorn.Config(
        relay, interface="asgi3", http=Connection, ws="none", lifespan="off", access_log=False, log_config=None,
        server_header=False, proxy_headers=False, timeout_keep_alive=75, backlog=_BACKLOG,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        print(f"relay at http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        settle()
        await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))

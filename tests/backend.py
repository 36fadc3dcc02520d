"""A backend for tests, programmable down to the byte, on a real loopback socket.

It keeps what it saw of every request (head, body, when the other side left) and answers by a script: bytes, pauses,
gates, cuts. Nothing is added to a scripted answer, so it can lie about lengths, stop in the middle, or say nothing at
all. The builders below make the usual answers (`chat`, `embeddings`, `replay`); they return scripts like any other.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds; a peer that leaves ends the script."""

    seconds: float


@dataclass(frozen=True)
class Gate:
    """Wait until the test sets the event: order without clocks."""

    event: asyncio.Event


@dataclass(frozen=True)
class Flood:
    """Write this piece until ``total`` bytes are out (None: until the peer leaves), as fast as the socket takes it."""

    piece: bytes
    total: int | None = None


@dataclass(frozen=True)
class Cut:
    """Reset the connection: the peer sees ECONNRESET, not an end."""


@dataclass(frozen=True)
class Close:
    """Close the connection in the ordinary way, wherever the answer stands."""


@dataclass(frozen=True)
class Stall:
    """Say nothing more; the script ends when the peer leaves."""


Step = bytes | Pause | Gate | Flood | Cut | Close | Stall
Script = Iterable[Step]


@dataclass
class Seen:
    """One request as it arrived. ``left`` is set, with the loop's time in ``left_at``, when the peer is gone."""

    method: str
    path: str
    head: bytes
    headers: list[tuple[str, str]]
    connection: int
    at: float
    body: bytes = b""
    sent: int = 0
    left_at: float | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: str) -> str | None:
        """The only value of a header, or None. Raises ValueError where it came twice."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        if len(values) > 1:
            raise ValueError(f"{name} came {len(values)} times")
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[Seen], Script] | Script


class Backend:
    """``async with Backend().running() as backend`` – or ``start`` and ``stop``.

    ``answer`` is used for every request that no ``then`` was queued for: a script, or a function of the request. With
    ``reads_body = False`` the body of a request is left on the socket and the answer begins at once.
    """

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer: Answer = chat() if answer is None else answer
        self.requests: list[Seen] = []
        self.connections = 0
        self.reads_body = True
        self.port = 0
        self._queue: list[Answer] = []
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._arrival = asyncio.Event()

    @property
    def url(self) -> str:
        """The base URL, as an operator would write it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *answers: Answer) -> None:
        """Queue answers for the next requests, one each."""
        self._queue.extend(answers)

    async def arrived(self, count: int = 1, within_s: float = 30.0) -> Seen:
        """Wait until ``count`` requests are here and give the last of them. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while len(self.requests) < count:
                self._arrival.clear()
                await self._arrival.wait()
        return self.requests[count - 1]

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the socket and drop every connection."""
        if self._server is not None:
            self._server.close()
        scripts = [connection.stop() for connection in list(self._open)]
        await asyncio.gather(*(script for script in scripts if script is not None), return_exceptions=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Backend]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    def _note(self, seen: Seen) -> None:
        self.requests.append(seen)
        self._arrival.set()

    def _script_for(self, seen: Seen) -> Script:
        answer = self._queue.pop(0) if self._queue else self.answer
        return answer(seen) if callable(answer) else answer


class _Connection(asyncio.Protocol):
    """Reads requests one after another and plays the script of each."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffer = b""
        self._seen: Seen | None = None
        self._script: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()
        self._backend.connections += 1
        self._number = self._backend.connections
        self._backend._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> None:
        # No half-open play: a peer that will send no more has left.
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._backend._open.discard(self)

    def stop(self) -> asyncio.Task[None] | None:
        if self._script is not None:
            self._script.cancel()
        self._transport.abort()
        return self._script

    def _leave(self) -> None:
        self._gone.set()
        self._writable.set()
        if self._seen is not None and not self._seen.left.is_set():
            self._seen.left_at = asyncio.get_running_loop().time()
            self._seen.left.set()

    def _advance(self) -> None:
        """Take the next whole request from the buffer, unless one is being answered."""
        if self._script is not None and not self._script.done():
            return
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        seen = _parse_head(head, self._number)
        length = int(seen.header("content-length") or 0)
        if self._backend.reads_body:
            if len(rest) < length:
                return
            seen.body, self._buffer = rest[:length], rest[length:]
        else:
            self._buffer = b""
            self._transport.pause_reading()
        self._seen = seen
        self._backend._note(seen)
        self._script = asyncio.get_running_loop().create_task(self._play(seen))

    async def _play(self, seen: Seen) -> None:
        for step in self._backend._script_for(seen):
            if self._gone.is_set():
                return
            await self._take(step, seen)
        seen.answered.set()
        # The next request of the same connection may be waiting in the buffer.
        asyncio.get_running_loop().call_soon(self._advance)

    async def _take(self, step: Step, seen: Seen) -> None:
        match step:
            case bytes():
                await self._write(step, seen)
            case Pause(seconds):
                await self._or_gone(asyncio.sleep(seconds))
            case Gate(event):
                await self._or_gone(event.wait())
            case Flood(piece, total):
                while not self._gone.is_set() and (total is None or seen.sent < total):
                    await self._write(piece, seen)
            case Cut():
                self._reset()
            case Close():
                self._transport.close()
                await self._gone.wait()
            case Stall():
                await self._gone.wait()

    async def _write(self, piece: bytes, seen: Seen) -> None:
        self._transport.write(piece)
        seen.sent += len(piece)
        await asyncio.sleep(0)
        await self._writable.wait()

    async def _or_gone(self, waiting: Any) -> None:
        tasks = {asyncio.ensure_future(waiting), asyncio.ensure_future(self._gone.wait())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _reset(self) -> None:
        # A copy of the descriptor: not every event loop gives out a socket with its options.
        with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        self._gone.set()


def _parse_head(head: bytes, connection: int) -> Seen:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Seen(method, path, head, headers, connection, asyncio.get_running_loop().time())


# Builders: each returns bytes or a script, nothing hidden.


def head(status: int = 200, headers: Pairs = (), reason: str = "OK") -> bytes:
    """A response head with exactly these headers."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
EVENT_STREAM: Pairs = (("content-type", "text/event-stream; charset=utf-8"), ("transfer-encoding", "chunked"))


def plain(body: bytes, status: int = 200, headers: Pairs = (), content_type: str = "application/json") -> list[Step]:
    """A whole answer with a true Content-Length."""
    framing = (("content-type", content_type), ("content-length", str(len(body))))
    return [head(status, (*framing, *headers)), body]


def json_answer(value: Any, status: int = 200, headers: Pairs = ()) -> list[Step]:
    """A whole JSON answer."""
    return plain(json.dumps(value).encode(), status, headers)


def error(status: int, message: str, code: str = "backend_says_no", headers: Pairs = ()) -> list[Step]:
    """An error object as OpenAI-compatible backends send it."""
    return json_answer({"error": {"message": message, "type": "error", "code": code}}, status, headers)


def stream(pieces: Iterable[Step], headers: Pairs = (), end: bool = True, status: int = 200) -> list[Step]:
    """A chunked event stream: every bytes piece becomes one chunk, other steps stay what they are."""
    framed: list[Step] = [chunk(step) if isinstance(step, bytes) else step for step in pieces]
    return [head(status, (*EVENT_STREAM, *headers)), *framed, *([LAST_CHUNK] if end else [])]


def cut_up(data: bytes, size: int | None) -> list[bytes]:
    """``data`` in pieces of ``size`` bytes; None: in one."""
    return [data] if size is None else [data[at : at + size] for at in range(0, len(data), size)]


def events(lines: Iterable[str | bytes], newline: bytes = b"\n", done: bool = True) -> bytes:
    """Server-sent events, one ``data:`` line each, then ``[DONE]``; ``newline`` is LF, CRLF or CR."""
    texts = [line.encode() if isinstance(line, str) else line for line in lines]
    return b"".join(b"data: " + text + newline * 2 for text in [*texts, *([b"[DONE]"] if done else [])])


USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def chat(
    tokens: Sequence[str] = ("Hello", ", ", "world"),
    *,
    usage: dict[str, Any] | None = None,
    delay_s: float = 0.0,
    tools: Sequence[dict[str, Any]] = (),
    finish: str = "stop",
    end: Script = (),
    force_usage: bool = False,
) -> Callable[[Seen], Script]:
    """A chat backend: streamed or not and ``n`` choices as the request asks.

    Usage (default ``USAGE``; ``{}``: none) is in a stream only where ``include_usage`` asks for it, or when forced.
    ``tools`` are calls ``{"name", "arguments"}``, sent instead of the text; ``end`` replaces the rest of a stream after
    the last token (a `Cut()`, a `Stall()`).
    """
    reported = USAGE if usage is None else usage

    def answer(seen: Seen) -> Script:
        asked = seen.json
        base = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": asked.get("model", "")}
        choices = range(asked.get("n") or 1)
        if not asked.get("stream"):
            message = _message(tokens, tools)
            why = "tool_calls" if tools else finish
            whole = [{"index": index, "message": message, "finish_reason": why} for index in choices]
            body = {**base, "object": "chat.completion", "choices": whole, **({"usage": reported} if reported else {})}
            return [*([Pause(delay_s)] if delay_s else []), *json_answer(body)]
        asks_usage = force_usage or (asked.get("stream_options") or {}).get("include_usage", False)
        deltas = [*_deltas(tokens, tools), ({}, "tool_calls" if tools else finish)]
        steps = _paced(_chunks(base, choices, deltas[:-1] if end else deltas), delay_s)
        if end:
            return stream([*steps, *end], end=False)
        if asks_usage and reported:
            steps.append(_event({**base, "object": "chat.completion.chunk", "choices": [], "usage": reported}))
        return stream([*steps, b"data: [DONE]\n\n"])

    return answer


def embeddings(dimensions: int = 4, usage: dict[str, Any] | None = None) -> Callable[[Seen], Script]:
    """An embeddings backend: one constant vector for each input."""

    def answer(seen: Seen) -> Script:
        asked = seen.json
        inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        rows = [
            {"object": "embedding", "index": index, "embedding": [0.5] * dimensions} for index in range(len(inputs))
        ]
        tokens = usage or {"prompt_tokens": 7 * len(inputs), "total_tokens": 7 * len(inputs)}
        return json_answer({"object": "list", "data": rows, "model": asked["model"], "usage": tokens})

    return answer


def _message(tokens: Sequence[str], tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not tools:
        return {"role": "assistant", "content": "".join(tokens)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [_call(index, tool) for index, tool in enumerate(tools)],
    }


def _call(index: int, tool: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool["name"], "arguments": tool["arguments"]}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def _deltas(tokens: Sequence[str], tools: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], str | None]]:
    if tools:
        return [({"tool_calls": [_call(index, tool)]}, None) for index, tool in enumerate(tools)]
    return [({"content": token}, None) for token in tokens]


def _chunks(
    base: dict[str, Any], choices: Iterable[int], deltas: Sequence[tuple[dict[str, Any], str | None]]
) -> list[bytes]:
    return [
        _event(
            {
                **base,
                "object": "chat.completion.chunk",
                "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
            }
        )
        for delta, finish in deltas
        for index in choices
    ]


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _paced(pieces: Sequence[bytes], delay_s: float) -> list[Step]:
    if not delay_s:
        return list(pieces)
    return [step for piece in pieces for step in (piece, Pause(delay_s))]

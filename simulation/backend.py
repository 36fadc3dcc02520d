"""The backend: in the place of the connections to it, real bytes of event streams and bodies at drawn instants.

It keeps its own append-only record of what it sent to which request: the third word beside the ledger's and the
caller's. A token of its language has four letters.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from gateway import http
from gateway.stored import Source
from gateway.target import Target
from gateway.upstream import Headers, Reply, UpstreamFailure, Upstreams
from simulation.loop import Actor, VirtualLoop
from simulation.trace import Trace

LETTERS = 4
WORD = "abc "
BUFFER_BYTES = 4 * 1024
"""What a connection holds of an answer that nobody reads; real ones hold more, and their answers are longer."""

PRICE_OUTPUT, PRICE_INPUT = 1_000_000, 250_000
"""Pico-USD per token."""

Ending = Literal["well", "reset", "stall", "status", "refused", "connect"]
Usage = Literal["end", "none", "cumulative"]


class Script(msgspec.Struct, frozen=True):
    """What the backend will do with one call. ``pieces``: after how many seconds how many tokens come."""

    head_s: float
    pieces: tuple[tuple[float, int], ...]
    usage: Usage
    ending: Ending
    stream: bool


@dataclass
class Sent:
    """What went to one request: tokens with the instants at which they left."""

    call: int
    request_id: str
    prompt: int
    begun: float
    pieces: list[tuple[float, int]] = field(default_factory=list)
    reported: bool = False

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.pieces)


class _Message(msgspec.Struct):
    content: str


class _Body(msgspec.Struct):
    messages: list[_Message]
    max_tokens: int | None = None


_body = msgspec.json.Decoder(_Body).decode


def prompt_of(content: str) -> int:
    """Input tokens of a chat of one message, as the gateway's own counting has them, too."""
    return 3 + 1 + -(-len(content) // LETTERS) + 3


class Backend:
    """One for all replicas. ``record`` is append-only."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, scripts: dict[int, Script], trace: Trace) -> None:
        self._loop = loop
        self._chance = chance
        self._scripts = scripts
        self._trace = trace
        self.actor = Actor("backend")
        self.record: list[Sent] = []

    async def take(self, body: bytes, headers: Headers) -> Reply:
        """The head of the reply to one request. Raises UpstreamFailure as the real connections do."""
        asked = _body(body)
        number = int(asked.messages[0].content.split(" ", 2)[1])
        script = self._scripts[number]
        if script.ending == "connect":
            await asyncio.sleep(script.head_s / 4)
            raise UpstreamFailure("connect", "refused")
        request_id = next(value for name, value in headers if name == b"x-request-id").decode()
        sent = Sent(number, request_id, prompt_of(asked.messages[0].content), self._loop.now)
        self.record.append(sent)
        await asyncio.sleep(script.head_s)
        return self._reply(script, sent, asked.max_tokens)

    def _reply(self, script: Script, sent: Sent, most: int | None) -> Reply:
        kind = b"text/event-stream" if script.stream else b"application/json"
        stream = _Stream(self._loop)
        if script.ending in ("status", "refused"):
            stream.push(b'{"error":{"message":"no"}}')
            stream.end()
            return Reply(500 if script.ending == "status" else 400, [(b"content-type", b"application/json")], stream)
        tell = self._stream if script.stream else self._whole
        self._loop.spawn(self.actor, tell(script, sent, stream, most))
        return Reply(200, [(b"content-type", kind)], stream)

    async def _stream(self, script: Script, sent: Sent, stream: _Stream, most: int | None) -> None:
        for gap_s, wanted in script.pieces:
            await asyncio.sleep(gap_s)
            await stream.room()
            tokens = wanted if most is None else min(wanted, most - sent.tokens)
            if stream.aborted or tokens <= 0:
                break
            sent.pieces.append((self._loop.now, tokens))
            usage = _usage(sent) if script.usage == "cumulative" else ""
            self._push(stream, _event(f'"choices":[{{"index":0,"delta":{{"content":"{WORD * tokens}"}}}}]{usage}'))
        self._end(script, sent, stream)

    def _push(self, stream: _Stream, data: bytes) -> None:
        """A piece, now and then in two, as the network has it."""
        if self._chance.random() < 0.1:
            at = self._chance.randrange(1, len(data))
            stream.push(data[:at])
            data = data[at:]
        stream.push(data)

    def _end(self, script: Script, sent: Sent, stream: _Stream) -> None:
        self._trace.tell("sent", sent.call, sent.tokens, "aborted" if stream.aborted else script.ending)
        if script.ending == "reset":
            return stream.break_off()
        if script.ending == "stall":
            return None
        last = _event('"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]')
        if script.usage == "end":
            last += _event('"choices":[]' + _usage(sent))
        sent.reported = script.usage != "none" and not stream.aborted
        stream.push(last + b"data: [DONE]\n\n")
        return stream.end()

    async def _whole(self, script: Script, sent: Sent, stream: _Stream, most: int | None) -> None:
        for gap_s, tokens in script.pieces:
            await asyncio.sleep(gap_s)
            if stream.aborted:
                return
            fitting = tokens if most is None else min(tokens, most - sent.tokens)
            sent.pieces.append((self._loop.now, max(0, fitting)))
        if script.ending in ("reset", "stall"):
            return stream.break_off() if script.ending == "reset" else None
        told = "" if script.usage == "none" else _usage(sent)
        text = f'"choices":[{{"index":0,"message":{{"content":"{WORD * sent.tokens}"}}}}]{told}'
        sent.reported = script.usage != "none"
        stream.push(f"{{{text}}}".encode())
        return stream.end()


def _event(members: str) -> bytes:
    return f'data: {{"object":"chat.completion.chunk",{members}}}\n\n'.encode()


def _usage(sent: Sent) -> str:
    """Cumulative, as usage frames are."""
    total = sent.prompt + sent.tokens
    counts = f'"prompt_tokens":{sent.prompt},"completion_tokens":{sent.tokens},"total_tokens":{total}'
    return f',"usage":{{{counts}}}'


class _Stream(http.BodyStream):
    """A body on its way: pushed at one end, pulled at the other, bounded as a socket is."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = self._broken = self.aborted = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        try:
            while not (self._pieces or self._ended or self._broken or self.aborted):
                self._reader = self._loop.create_future()
                await self._reader
        except asyncio.CancelledError:
            self.abort()
            raise
        if self._pieces and not self.aborted:
            return self._taken()
        if self._ended and not self.aborted:
            return b""
        raise http.TransportError("the connection was reset")

    def whole(self) -> bytes | None:
        return self._taken() if self._ended and not self.aborted else None

    async def flow(self, sink: http.Sink) -> bool:
        while data := await self.read():
            if not sink(data):
                return True
        return False

    def _taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        _wake(self._writer)
        return data

    async def room(self) -> None:
        """Wait until the other end has taken some."""
        while self._size > BUFFER_BYTES and not self.aborted:
            self._writer = self._loop.create_future()
            await self._writer

    def push(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        _wake(self._reader)

    def end(self) -> None:
        self._ended = True
        _wake(self._reader)

    def break_off(self) -> None:
        """The connection is reset: what came before is given out first."""
        self._broken = True
        _wake(self._reader)

    def abort(self) -> None:
        self.aborted = True
        _wake(self._reader)
        _wake(self._writer)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class Connections(Upstreams):
    """One process's connections to the backend; they die with it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._open: list[Reply] = []

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
        assert isinstance(body, bytes)
        reply = await self._backend.take(body, headers)
        self._open.append(reply)
        return reply

    def die(self) -> None:
        """The process is gone, and its sockets with it."""
        for reply in self._open:
            reply.close()

    async def aclose(self) -> None:
        self.die()

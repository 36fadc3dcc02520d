"""The torture's backend, in a process of its own: answers by the plan in the prompt, and keeps a record of what it did.

`python -m tests.torture.backend --record FILE` prints its port and serves until its standard input ends. Each line of
the record is written by one write(2) as it happens, so that it survives whatever happens to anybody:

    B call time nonce request-id streamed     a call has come
    S call time tokens                        so many tokens in all were handed to its socket
    U call prompt completion                  usage was reported
    E call time how tokens                    it ended: whole, failed (by plan), left (the other side hung up)

Times are of the machine's monotonic clock. What was handed to a socket may not have been read by anybody.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.torture.plan import PROMPT_TOKENS, TOKEN_BYTES, Plan, text_of

_OK = b"HTTP/1.1 200 OK\r\n"
_STREAM = _OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_FORGIVEN_MAX = 10_000


class Record:
    """Appends lines to a file. ``grain_s``: a call's progress is written no oftener than that (0: every piece)."""

    def __init__(self, path: Path, grain_s: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.grain_s = grain_s

    def line(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class House:
    """What all connections share: the record, the calls' numbers, and who was refused once already."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.calls = 0
        self._refused_once: dict[str, None] = {}

    def next_call(self) -> int:
        self.calls += 1
        return self.calls

    def refuses_first(self, nonce: str) -> bool:
        """Whether this is the call's first attempt. Remembers a bounded number."""
        if nonce in self._refused_once:
            return False
        if len(self._refused_once) >= _FORGIVEN_MAX:
            del self._refused_once[next(iter(self._refused_once))]
        self._refused_once[nonce] = None
        return True


class Connection(asyncio.Protocol):
    """Requests one after another; each is answered by a task."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None or self._task.done():
            self._next()

    def _next(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        length = int(headers.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        body, self._buffer = rest[:length], rest[length:]
        self._task = asyncio.create_task(self._answer(headers.get(b"x-request-id", b"-").decode(), body))

    async def _answer(self, request_id: str, body: bytes) -> None:
        asked = json.loads(body)
        plan = Plan.read(asked["messages"][-1]["content"])
        answer = Answer(self._house, self, plan, request_id, bool(asked.get("stream")))
        await answer.give()
        if not self._gone and self._buffer:
            self._task = None
            self._next()

    async def pause(self, seconds: float) -> bool:
        """Wait; False if the other side is gone."""
        if seconds > 0:
            await asyncio.sleep(seconds)
        if not self._writable.is_set():
            await self._writable.wait()
        return not self._gone

    def write(self, data: bytes) -> None:
        if not self._gone:
            self.transport.write(data)

    def reset(self) -> None:
        """Without lingering a close is a reset."""
        line = self.transport.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    @property
    def gone(self) -> bool:
        return self._gone


class Answer:
    """One call of the backend."""

    def __init__(self, house: House, connection: Connection, plan: Plan, request_id: str, streamed: bool) -> None:
        self._record = house.record
        self._house = house
        self._connection = connection
        self._plan = plan
        self._streamed = streamed
        self._call = house.next_call()
        self._sent = 0
        self._noted_at = 0.0
        self._record.line("B", self._call, _now(), plan.nonce, request_id, int(streamed))

    async def give(self) -> None:
        plan = self._plan
        if plan.fail == "head" or (plan.fail == "first" and self._house.refuses_first(plan.nonce)):
            self._connection.write(_FAILED)
            return self._end("failed")
        how = await (self._stream() if self._streamed else self._whole())
        self._end(how)

    def _end(self, how: str) -> None:
        self._record.line("E", self._call, _now(), how, self._sent)

    async def _whole(self) -> str:
        plan = self._plan
        if not await self._connection.pause(plan.reaches / plan.rate):
            return "left"
        if plan.fail in ("middle", "stall"):
            return await self._fail()
        message = {"role": "assistant", "content": text_of(plan.nonce, plan.length)}
        body: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        body["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        if plan.usage != "none":
            body["usage"] = self._usage(plan.length)
        data = json.dumps(body).encode()
        self._sent = plan.length
        self._connection.write(_OK + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        return "left" if self._connection.gone else "whole"

    async def _stream(self) -> str:
        plan = self._plan
        text, reaches = text_of(plan.nonce, plan.length), plan.reaches
        self._connection.write(_STREAM)
        begun = time.monotonic()
        while self._sent < reaches:
            due = begun + self._sent / plan.rate
            if not await self._connection.pause(due - time.monotonic()):
                return "left"
            end = min(self._sent + plan.chunk, reaches)
            self._piece(text[self._sent * TOKEN_BYTES : end * TOKEN_BYTES], end)
        if plan.fail in ("middle", "stall"):
            return await self._fail()
        self._last()
        return "left" if self._connection.gone else "whole"

    def _piece(self, text: str, end: int) -> None:
        self._sent = end
        used = self._usage(end) if self._plan.usage == "every" else None
        self._connection.write(_chunk(_event({"content": text}, None, used)))
        now = time.monotonic()
        if now - self._noted_at >= self._record.grain_s:
            self._noted_at = now
            self._record.line("S", self._call, _now(), end)

    def _last(self) -> None:
        self._record.line("S", self._call, _now(), self._sent)
        tail = _event({}, "stop", None)
        if self._plan.usage != "none":
            tail += _event(None, None, self._usage(self._sent))
        self._connection.write(_chunk(tail + b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def _fail(self) -> str:
        """In the way of the plan: a reset, or silence until the other side has left."""
        if self._plan.fail == "stall":
            while await self._connection.pause(0.5):
                pass
            return "left"
        self._connection.reset()
        return "failed"

    def _usage(self, completion: int) -> dict[str, int]:
        self._record.line("U", self._call, PROMPT_TOKENS, completion)
        total = PROMPT_TOKENS + completion
        return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": completion, "total_tokens": total}


def _now() -> str:
    return f"{time.monotonic():.4f}"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: dict[str, str] | None, finish: str | None, usage: dict[str, int] | None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    value: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    value["choices"] = choices
    if usage is not None:
        value["usage"] = usage
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def serve(record: Path, grain_s: float) -> None:
    """Until standard input ends: whoever started this is gone."""
    loop, house = asyncio.get_running_loop(), House(Record(record, grain_s))
    server = await loop.create_server(lambda: Connection(house), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@asynccontextmanager
async def serving(record: Path, *, grain_s: float = 0.0) -> AsyncIterator[str]:
    """A backend in a process of its own, for as long as the block lasts; its base URL."""
    words = ("-m", "tests.torture.backend", "--record", str(record), "--grain", str(grain_s))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--grain", type=float, default=0.0)
    given = parser.parse_args()
    uvloop.run(serve(given.record, given.grain))

"""The callers: each sends one call to one replica, reads at its own pace, may leave, and keeps every byte it gets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.downstream import WRITE
from simulation.backend import LETTERS
from simulation.loop import Actor, VirtualLoop

_TEXT = re.compile(rb'"content":"([^"\\]*)"')
_CODE = re.compile(rb'"code":"(\w+)"')


class Plan(msgspec.Struct, frozen=True):
    """What a caller will do. ``leaves_s`` after its beginning (None: never); ``pace_s`` is what reading one piece
    takes. ``key``: its Idempotency-Key, ``again_of``: the earlier call that it repeats."""

    number: int
    user: int
    at_s: float
    model: str
    words: int
    stream: bool
    max_tokens: int | None = None
    leaves_s: float | None = None
    pace_s: float = 0.0
    key: str = ""


@dataclass(eq=False)
class Call:
    """One call as its caller saw it: whom it asked, what it was told, every byte with its instant."""

    plan: Plan
    replica: str
    begun: float
    request_id: str = ""
    status: int = 0
    received: list[tuple[float, bytes]] = field(default_factory=list)
    whole: bool = False
    left_at: float | None = None
    broken_at: float | None = None
    ended_at: float | None = None

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.received)

    @property
    def tokens(self) -> int:
        """Output tokens that reached the caller."""
        return sum(len(text) for text in _TEXT.findall(self.body)) // LETTERS

    @property
    def code(self) -> str:
        """The code of the refusal it was told, if any."""
        found = _CODE.search(self.body)
        return found.group(1).decode() if found else ""

    @property
    def answered(self) -> bool:
        """A good answer, to its end."""
        return self.whole and self.status == 200 and not self.code

    def tokens_since(self, instant: float) -> int:
        """Output tokens that came at this instant or later."""
        before = b"".join(data for at, data in self.received if at < instant)
        return self.tokens - sum(len(text) for text in _TEXT.findall(before)) // LETTERS


class Line:
    """One connection as the server sees it: the two callables of ASGI, and the scope."""

    def __init__(self, loop: VirtualLoop, call: Call, user_key: str) -> None:
        self._loop = loop
        self.call = call
        self._gone: asyncio.Future[None] = loop.create_future()
        self._asked = False
        self.over: asyncio.Future[None] = loop.create_future()
        headers = [(b"authorization", f"Bearer {user_key}".encode()), (b"content-type", b"application/json")]
        if call.plan.key:
            headers.append((b"idempotency-key", call.plan.key.encode()))
        self.scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": headers,
            "extensions": {WRITE: {}},
        }

    async def receive(self) -> MutableMapping[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": body_of(self.call.plan), "more_body": False}
        await asyncio.shield(self._gone)
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        call = self.call
        if self._gone.done():
            return
        if message["type"] == "http.response.start":
            call.status = message["status"]
            call.request_id = next((v.decode() for k, v in message["headers"] if k == b"x-request-id"), "")
            return
        if message["type"] == WRITE:
            message["write"] = self.write
            return
        data = message.get("body", b"")
        call.received.append((self._loop.now, data))
        if not message.get("more_body"):
            call.whole = True
            self.hang_up()
        elif call.plan.pace_s:
            await asyncio.wait((self._gone,), timeout=call.plan.pace_s)

    def write(self, data: bytes) -> bool:
        """A piece at once, to a caller who reads as fast as it is written to."""
        if self._gone.done() or self.call.plan.pace_s:
            return False
        self.call.received.append((self._loop.now, data))
        return True

    def hang_up(self) -> None:
        """The connection is over, whoever ended it."""
        if not self._gone.done():
            self._gone.set_result(None)
        if not self.over.done():
            self.call.ended_at = self._loop.now
            self.over.set_result(None)


def body_of(plan: Plan) -> bytes:
    """The request's body. The first words name the call, so that the backend knows its script."""
    content = content_of(plan)
    body: dict[str, Any] = {"model": plan.model, "messages": [{"role": "user", "content": content}]}
    if plan.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if plan.max_tokens is not None:
        body["max_tokens"] = plan.max_tokens
    return msgspec.json.encode(body)


def content_of(plan: Plan) -> str:
    return f"call {plan.number} " + "word" * plan.words


class Caller:
    """Makes one call and sees it through."""

    def __init__(self, loop: VirtualLoop, plan: Plan) -> None:
        self._loop = loop
        self.plan = plan
        self.actor = Actor(f"caller-{plan.number}")

    async def attend(self, line: Line) -> None:
        """Wait for the end of the call; leave when it is time."""
        leaves = self.plan.leaves_s
        await asyncio.wait((line.over,), timeout=leaves)
        if not line.over.done():
            line.call.left_at = self._loop.now
            line.hang_up()

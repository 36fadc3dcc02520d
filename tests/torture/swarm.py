"""Callers, many at once: each writes down every byte it was given, leaves when it likes, and tries again elsewhere."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

from ledger.money import parse_usd
from tests.house import Caller
from tests.streams import events
from tests.torture.plan import TOKEN_BYTES, Plan, text_of

_PATIENCE_S = 90.0
_READ_BYTES = 256


@dataclass(frozen=True, slots=True)
class Order:
    """One call somebody wants to make. ``leaves_after``: bytes of the reply after which the caller hangs up (0: at once
    when the request is out); ``slow_s``: seconds it waits after each small read; ``shows_usage``: it asks for usage."""

    caller: Caller
    plan: Plan
    model: str = "small"
    streamed: bool = True
    shows_usage: bool = True
    leaves_after: int | None = None
    slow_s: float = 0.0
    key: str = ""
    tries: int = 1

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": self.plan.prompt()}]}
        if self.streamed:
            body["stream"] = True
            if self.shows_usage:
                body["stream_options"] = {"include_usage": True}
        return body

    def headers(self) -> dict[str, str]:
        return {**self.caller.headers, **({"idempotency-key": self.key} if self.key else {})}


@dataclass(slots=True)
class Heard:
    """One try of an order, as its caller saw it. ``how``: whole (to its end), left (by the caller), broken (by the
    other side), refused (nobody listened), hangs. ``tokens`` of its answer came; ``foreign``: something in it was not
    its own, from its beginning."""

    order: Order
    replica: int
    begun: float
    how: str = ""
    status: int = 0
    request_id: str = ""
    bytes: int = 0
    tokens: int = 0
    foreign: bool = False
    finish: str = ""
    done: bool = False
    error: str = ""
    cost: int | None = None
    ended: float = 0.0
    retry_after: bool = False


@dataclass
class Swarm:
    """``urls`` gives the address of each replica as it is at this moment (empty: none)."""

    http: aiohttp.ClientSession
    urls: Callable[[], Sequence[str]]
    heard: list[Heard] = field(default_factory=list)
    open: int = 0
    _turn: int = 0

    async def call(self, order: Order, replica: int | None = None) -> Heard:
        """Make a call: at this replica, or at each in turn; the next one where nobody listens; again where it broke."""
        for _ in range(order.tries):
            heard = await self._anywhere(order, replica)
            if heard.how != "broken" and heard.status not in (502, 503, 504):
                break
            await asyncio.sleep(0.3)
        return heard

    async def _anywhere(self, order: Order, replica: int | None) -> Heard:
        urls = self.urls()
        for number in self._way(len(urls)) if replica is None else [replica]:
            heard = Heard(order, number, time.monotonic())
            self.open += 1
            try:
                await self._try(heard, urls[number])
            finally:
                self.open -= 1
                heard.ended = time.monotonic()
            if heard.how != "refused":
                break
        self.heard.append(heard)
        return heard

    def _way(self, count: int) -> Iterator[int]:
        self._turn += 1
        begin = self._turn
        return ((begin + step) % count for step in range(count))

    async def _try(self, heard: Heard, url: str) -> None:
        if not url:
            heard.how = "refused"
            return
        order, timeout = heard.order, aiohttp.ClientTimeout(total=_PATIENCE_S)
        there = f"{url}/v1/chat/completions"
        request = self.http.post(there, json=order.body(), headers=order.headers(), timeout=timeout)
        taken = bytearray()
        try:
            reply = await _headed(request, order)
        except aiohttp.ClientConnectorError:
            heard.how = "refused"
            return
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            heard.how = "left" if isinstance(error, _Left) else "broken"
            return
        try:
            heard.status = reply.status
            heard.request_id = reply.headers.get("x-request-id", "")
            heard.retry_after = "retry-after" in reply.headers
            heard.how = await _read(reply, order, taken)
        except (aiohttp.ClientError, ConnectionError):
            heard.how = "broken"
        except TimeoutError:
            heard.how = "hangs"
        finally:
            reply.close()
        _understand(heard, bytes(taken), reply)


class _Left(TimeoutError):
    """The caller hung up before the head came."""


async def _headed(request: Any, order: Order) -> aiohttp.ClientResponse:
    """The reply's head. Whoever leaves at once gives up a moment after the request is out."""
    if order.leaves_after != 0:
        return await request  # type: ignore[no-any-return]
    try:
        return await asyncio.wait_for(request, 0.02)
    except TimeoutError:
        raise _Left from None


async def _read(reply: aiohttp.ClientResponse, order: Order, taken: bytearray) -> str:
    """Every byte of the reply, until its end or until the caller leaves."""
    while True:
        data = await (reply.content.read(_READ_BYTES) if order.slow_s else reply.content.readany())
        if not data:
            return "whole"
        taken += data
        if order.leaves_after is not None and len(taken) >= order.leaves_after:
            return "left"
        if order.slow_s:
            await asyncio.sleep(order.slow_s)


def _understand(heard: Heard, taken: bytes, reply: aiohttp.ClientResponse) -> None:
    """What the bytes say."""
    heard.bytes = len(taken)
    if heard.status == 200 and heard.order.streamed:
        _understand_stream(heard, taken[: taken.rfind(b"\n\n") + 2])
        return
    try:
        body = json.loads(taken)
    except ValueError:
        return
    heard.error = (body.get("error") or {}).get("code", "")
    if heard.status == 200:
        _compare(heard, body["choices"][0]["message"]["content"])
        heard.finish, heard.done = body["choices"][0]["finish_reason"], True
        heard.cost = parse_usd(reply.headers["x-farebox-cost"])


def _understand_stream(heard: Heard, taken: bytes) -> None:
    said = []
    for event in events(taken):
        if event == "[DONE]":
            heard.done = True
            continue
        if "error" in event:
            heard.error = event["error"]["code"]
        for choice in event.get("choices", ()):
            said.append(choice["delta"].get("content") or "")
            heard.finish = choice["finish_reason"] or heard.finish
        if (event.get("usage") or {}).get("cost") is not None:
            heard.cost = parse_usd(Decimal(event["usage"]["cost"]))
    _compare(heard, "".join(said))


def _compare(heard: Heard, text: str) -> None:
    """The text is let go: a long run has many."""
    plan = heard.order.plan
    heard.tokens = -(-len(text) // TOKEN_BYTES)
    heard.foreign = not text_of(plan.nonce, plan.length).startswith(text)

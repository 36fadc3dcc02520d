"""The door of the admin API: what holds for every request, before any route sees it.

In this order: an id, where it comes from, who it is, whether a page of another site made a browser send it, its body
within bounds, and whether it was done before. A route that forgot a rule is still behind this door.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from uuid import UUID

from starlette.datastructures import Headers

from admin_api.access import Caller
from admin_api.address import client_address
from admin_api.body import Message, Receive, is_text, read_body
from admin_api.gatekeeper import Gatekeeper
from admin_api.house import AdminHouse
from admin_api.once import HEADER, Claim, Once, Stored
from admin_api.problems import Problem, forbidden, not_found
from admin_api.refused import problem_of
from config.places import Network
from ledger.ids import uuid7

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX = "/admin/api"
_WRITE_S = 60.0
_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_REPEATABLE = ("POST", "PATCH", "DELETE")
_OPEN = (f"{PREFIX}/v1/auth/login", f"{PREFIX}/v1/auth/refresh")
_PAGES = (f"{PREFIX}/docs", f"{PREFIX}/v1/openapi.json")
_CARRIED = "error"
_log = logging.getLogger("farebox.admin")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_NOT_REPLAYED = (b"content-length", b"x-request-id", *(name for name, _ in _HEADERS))


class Door:
    """The ASGI application of the admin API: ``app`` behind all this. ``takes`` tells whether it has a route."""

    def __init__(
        self,
        app: App,
        house: AdminHouse,
        *,
        takes: Callable[[Scope], bool],
        gatekeeper: Gatekeeper,
        once: Once,
        trusted: Sequence[Network],
    ) -> None:
        self._app = app
        self._house = house
        self._takes = takes
        self._gatekeeper = gatekeeper
        self._once = once
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong becomes a problem document."""
        request_id = uuid7()
        out = _Out(send, request_id)
        try:
            await self._answer(scope, receive, out, request_id)
        except Exception as error:
            await out.problem(problem_of(error, request_id))

    async def _answer(self, scope: Scope, receive: Receive, out: _Out, request_id: UUID) -> None:
        headers, path = Headers(scope=scope), str(scope["path"])
        if not path.startswith(f"{PREFIX}/"):
            raise not_found()
        address = self._address(scope, headers)
        state: dict[str, Any] = {"house": self._house, "request_id": request_id, "address": address}
        scope = {**scope, "state": state, "root_path": PREFIX}
        if is_page(path):
            return await self._run(scope, receive, out)
        _sent_by_no_other_site(scope["method"], headers)
        if path in _OPEN:
            with self._gatekeeper.stranger(address):
                return await self._routed(scope, headers, receive, out)
        state["caller"] = await self._gatekeeper.caller(headers.get("authorization"), address, request_id)
        await self._routed(scope, headers, receive, out)

    async def _routed(self, scope: Scope, headers: Headers, receive: Receive, out: _Out) -> None:
        _names_something(scope)
        if scope["method"] not in _WRITES:
            return await self._run(scope, receive, out)
        body = await read_body(headers, receive)
        async with asyncio.timeout(_WRITE_S):
            await self._write(scope, headers, body, out)

    def _address(self, scope: Scope, headers: Headers) -> str:
        peer = scope.get("client")
        return client_address(peer[0] if peer else "", headers.getlist("x-forwarded-for"), self._trusted)

    async def _write(self, scope: Scope, headers: Headers, body: bytes, out: _Out) -> None:
        caller: Caller | None = scope["state"].get("caller")
        key = headers.get(HEADER)
        # What no route takes is told as that, whatever its key was used for.
        if key is None or caller is None or scope["method"] not in _REPEATABLE or not self._takes(scope):
            return await self._run(scope, _once_received(body), out)
        match = headers.get("if-match", "").encode()
        request = b"\n".join((scope["method"].encode(), scope["raw_path"], scope["query_string"], match, body))
        claim = self._once.claim(caller, key, request)
        if (stored := await self._once.take(claim)) is not None:
            return await out.replay(stored)
        await self._do_once(scope, body, out, claim)

    async def _do_once(self, scope: Scope, body: bytes, out: _Out, claim: Claim) -> None:
        kept = _Kept()
        try:
            await self._run(scope, _once_received(body), kept)
        finally:
            await self._closed(claim, kept)
        for message in kept.messages:
            await out(message)

    async def _closed(self, claim: Claim, kept: _Kept) -> None:
        """Keep the reply, or free the key. What was done is told even if it cannot be kept: then the key counts as
        running until it is taken over."""
        try:
            await (self._once.store(claim, kept.stored()) if kept.succeeded else self._once.free(claim))
        except Exception as error:
            _log.warning("idempotency key not closed", extra={"reason": repr(error)[:500]})

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
        if (error := scope["state"].get(_CARRIED)) is not None:
            raise error


class Carried:
    """Middleware that carries an error past the framework, which would answer it in its own way, out to the door."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the routes; what they raise is laid down for the door."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            scope["state"][_CARRIED] = error


class _Out:
    """Sends, with the headers every reply has; knows whether a reply has begun."""

    def __init__(self, send: Send, request_id: UUID) -> None:
        self._send = send
        self._request_id = str(request_id)
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": self._with_ours(message.get("headers", ()))}
        await self._send(message)

    def _with_ours(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        theirs = list(headers)
        names = {name for name, _ in theirs}
        ours = [(name, value) for name, value in _HEADERS if name not in names]
        return [*theirs, *ours, (b"x-request-id", self._request_id.encode())]

    async def problem(self, problem: Problem) -> None:
        """A problem, unless a reply has begun: then it is cut off, so that nobody takes it for whole."""
        if self._begun:
            raise ConnectionAbortedError("the reply had begun")
        reply = problem.reply(f"urn:uuid:{self._request_id}")
        await self({"type": "http.response.start", "status": reply.status_code, "headers": reply.raw_headers})
        await self({"type": "http.response.body", "body": reply.body})

    async def replay(self, stored: Stored) -> None:
        """What was told before."""
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers]
        headers += [(b"content-length", b"%d" % len(stored.body)), (b"idempotency-replayed", b"true")]
        await self({"type": "http.response.start", "status": stored.status, "headers": headers})
        await self({"type": "http.response.body", "body": stored.body})


class _Kept:
    """Takes a reply instead of the caller, until it is stored."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def succeeded(self) -> bool:
        return bool(self.messages) and self.messages[0]["status"] < 400

    def stored(self) -> Stored:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self.messages[0].get("headers", ())
            if name not in _NOT_REPLAYED
        ]
        body = b"".join(message.get("body", b"") for message in self.messages[1:])
        return Stored(self.messages[0]["status"], headers, body)


def is_page(path: str) -> bool:
    """Whether this is the description of the API: it holds no data and needs no login."""
    return path in _PAGES or path.startswith(f"{PREFIX}/docs/")


def _sent_by_no_other_site(method: str, headers: Headers) -> None:
    """Nothing here goes by cookies, so another site's page has nothing to ride on; it is refused all the same."""
    if method in _WRITES and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise forbidden("A page of another site may not write here.")


def _names_something(scope: Scope) -> None:
    """No database stores a NUL or half a surrogate pair; a path with one names nothing."""
    if not is_text(scope["path"]):
        raise not_found()
    if b"%00" in bytes(scope["query_string"]):
        raise Problem(400, "Malformed", "The query holds a NUL character.")


def _once_received(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive

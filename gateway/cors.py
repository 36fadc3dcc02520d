"""Web pages that call the API from a browser: who may, and how a browser is told. Around the whole data plane, and only
there where an origin is set; a call without the header Origin passes as if nothing stood here.

A page presents a key of its user's, never a cookie: so nothing is told of credentials, and any origin may be allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.downstream import Endpoint, Headers, Message, Receive, Scope, Send

_METHODS = b"GET, POST"
_ASKED = b"authorization, content-type"
_EXPOSED = ", ".join(
    (
        "x-request-id",
        "x-farebox-cost",
        "x-farebox-balance",
        "x-farebox-tokens-left",
        "retry-after",
        *(f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
    )
).encode()
_MAX_AGE_S = b"600"
_VARY = (b"vary", b"Origin")


def with_cors(app: Endpoint, origins: Sequence[str]) -> Endpoint:
    """The application, open to pages of these origins (``*``: of any); the application itself where there are none."""
    return Cors(app, origins) if origins else app


class Cors:
    """An application for browsers."""

    def __init__(self, app: Endpoint, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = b"*" in self._origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"origin":
                    return await self._for_page(value, scope, receive, send)
        await self._app(scope, receive, send)

    async def _for_page(self, origin: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/v1/"):
            return await self._app(scope, receive, send)
        allowed = self._any or origin in self._origins
        if scope["method"] == "OPTIONS":
            return await _preflight(origin if allowed else None, send)
        told: Headers = [_VARY]
        if allowed:
            told += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED)]

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *told]}
            await send(message)

        await self._app(scope, receive, telling)


async def _preflight(origin: bytes | None, send: Send) -> None:
    """The answer to what a browser asks first. It carries no key, so it is answered to anybody; an origin that is not
    allowed is told nothing, which is how a browser is told no."""
    headers: Headers = [_VARY]
    if origin is not None:
        headers += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _ASKED),
            (b"access-control-max-age", _MAX_AGE_S),
        ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})

"""The keys an issuer publishes behind an address: fetched, kept for a while, fetched again for a name not among them.

One fetch at a time, none for a while after a failure, within bounds of time and size. No redirect is followed, no
proxy of the environment is asked, and the address is held to the same rule as a backend's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Any, cast

import jwt
import msgspec

from gateway import http

PAUSE_S = 5.0
"""How long after a failure nothing is fetched."""

_TIMEOUT_S = 5.0
_LIFE_S = 600.0
_COOLDOWN_S = 30.0
_BYTES_MAX = 256 * 1024
_HEADERS = [("accept", "application/json"), ("accept-encoding", "identity")]

_log = logging.getLogger("farebox.gateway")


class KeysUnavailable(Exception):
    """The issuer's keys cannot be had now, so nothing can be said about its tokens."""


class FetchedKeys:
    """The set behind one address; ``private``: it may lie in a private network."""

    def __init__(self, address: str, *, private: bool = False) -> None:
        self.address = address
        self._private = private
        self._keys: list[jwt.PyJWK] = []
        self._turn = asyncio.Lock()
        self._fetched_at = -math.inf
        self._not_before = -math.inf

    async def named(self, kid: str) -> jwt.PyJWK | None:
        """The key of this name; None where the issuer publishes none. Raises KeysUnavailable."""
        async with self._turn:
            for age_s in (_LIFE_S, _COOLDOWN_S):
                if time.monotonic() - self._fetched_at >= age_s:
                    await self._fetch()
                for key in self._keys:
                    if key.key_id == kid:
                        return key
        return None

    async def _fetch(self) -> None:
        if time.monotonic() < self._not_before:
            raise KeysUnavailable(self.address)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                body = await self._asked()
            self._keys = _read(body)
        except (http.TransportError, TimeoutError, ValueError, jwt.PyJWTError) as error:
            self._not_before = time.monotonic() + PAUSE_S
            _log.warning(
                "issuer keys not fetched",
                extra={"address": self.address, "error": f"{type(error).__name__}: {error}"},
            )
            raise KeysUnavailable(self.address) from error
        self._fetched_at = time.monotonic()

    async def _asked(self) -> bytes:
        # A transport for each fetch: there is one in ten minutes, and nothing has to be closed at the end.
        transport = http.AiohttpTransport(private=self._private)
        try:
            reply = await transport.handle_async_request(_request(self.address))
            if reply.status_code != 200:
                raise ValueError(f"answers with {reply.status_code}")
            return await _bounded(cast(http.BodyStream, reply.stream))
        finally:
            await transport.aclose()


def _request(address: str) -> http.Request:
    return http.Request("GET", address, headers=_HEADERS, extensions={"timeout": {"connect": _TIMEOUT_S}})


async def _bounded(stream: http.BodyStream) -> bytes:
    body = b""
    while piece := await stream.read():
        body += piece
        if len(body) > _BYTES_MAX:
            stream.abort()
            raise ValueError(f"answers with more than {_BYTES_MAX} bytes")
    return body


def _read(body: bytes) -> list[jwt.PyJWK]:
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except RecursionError as error:
        raise ValueError("answers with no JSON") from error
    return list(jwt.PyJWKSet.from_dict(document).keys)

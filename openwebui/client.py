"""Open WebUI's admin API, asked with an administrator's API key. The only file of this room that opens a connection.

Every question is bounded in time, every reply in bytes. Nothing is repeated, no redirect is followed, no proxy of the
environment is used: the key goes to the address the operator named and nowhere else.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec

from config.places import refusal
from openwebui.shapes import Circle, Embedding, People, Row, ShownList, Webhook

T = TypeVar("T")

_TIMEOUT_S = 20.0
_REPLY_BYTES_MAX = 64 * 1024 * 1024
_DETAIL_CHARS = 300


class OpenWebUIError(Exception):
    """Open WebUI did not do what it was asked; the message is a sentence for the operator, without any secret."""


class Verified(NamedTuple):
    """What a connection answered to Open WebUI."""

    status: int
    body: Any


class OpenWebUI:
    """One Open WebUI. Every method may raise OpenWebUIError."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._http = http
        self._headers = {"authorization": f"Bearer {key}", "accept": "application/json"}

    # -- what it is

    async def version(self) -> str:
        """Like ``0.12.4``."""
        return str((await self._read("/api/version", dict[str, Any])).get("version", ""))

    # -- its connections

    async def connections(self) -> dict[str, Any]:
        """Its OpenAI connections, as the document that ``set_connections`` takes; the keys are in it."""
        return await self._read("/openai/config", dict[str, Any])

    async def set_connections(self, document: Mapping[str, Any]) -> None:
        await self._ask("POST", "/openai/config/update", document)

    async def verified(self, url: str, key: str, headers: Mapping[str, str]) -> Verified:
        """What Open WebUI gets when it asks this connection for its models, with all the headers a call has."""
        config = {"auth_type": "bearer", "headers": dict(headers)}
        status, body = await self._send("POST", "/openai/verify", {"url": url, "key": key, "config": config})
        return Verified(status, _decoded(body, Any, "/openai/verify"))

    async def uses_ollama(self) -> bool:
        return bool((await self._read("/ollama/config", dict[str, Any])).get("ENABLE_OLLAMA_API"))

    async def direct_connections(self) -> bool:
        """Whether people may add connections of their own."""
        document = await self._read("/api/v1/configs/connections", dict[str, Any])
        return bool(document.get("ENABLE_DIRECT_CONNECTIONS"))

    async def embedding(self) -> Embedding:
        return await self._read("/api/v1/retrieval/embedding", Embedding)

    # -- its models

    async def model_defaults(self) -> dict[str, Any]:
        """What holds for all models, as the document that ``set_model_defaults`` takes."""
        return await self._read("/api/v1/configs/models", dict[str, Any])

    async def set_model_defaults(self, document: Mapping[str, Any]) -> None:
        await self._ask("POST", "/api/v1/configs/models", document)

    async def shown_models(self) -> ShownList:
        """The list people choose from, as an administrator sees it."""
        return await self._read("/api/models", ShownList)

    async def model_rows(self) -> list[Row]:
        """What is kept of models of connections."""
        return await self._read("/api/v1/models/base", list[Row])

    async def make_model_row(self, document: Mapping[str, Any]) -> None:
        await self._ask("POST", "/api/v1/models/create", document)

    async def change_model_row(self, document: Mapping[str, Any]) -> None:
        await self._ask("POST", "/api/v1/models/model/update", document)

    async def set_access(self, document: Mapping[str, Any]) -> None:
        """To whom a model is shown: all grants of it."""
        await self._ask("POST", "/api/v1/models/model/access/update", document)

    # -- its people

    async def people(self, page: int) -> People:
        """A page of users, by e-mail, which no two share: an order that says where the next page begins."""
        return await self._read(f"/api/v1/users/?page={page}&order_by=email&direction=asc", People)

    async def circles(self) -> list[Circle]:
        """All groups."""
        return await self._read("/api/v1/groups/", list[Circle])

    # -- its webhooks

    async def webhooks(self) -> list[Webhook]:
        return await self._read("/api/events/webhooks", list[Webhook])

    async def make_webhook(self, document: Mapping[str, Any]) -> None:
        await self._ask("POST", "/api/events/webhooks", document)

    async def change_webhook(self, webhook_id: str, document: Mapping[str, Any]) -> None:
        await self._ask("PUT", f"/api/events/webhooks/{webhook_id}", document)

    # -- the wire

    async def _read(self, path: str, kind: type[T]) -> T:
        return _decoded(await self._ask("GET", path), kind, path)

    async def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> bytes:
        status, body = await self._send(method, path, document)
        if status in (401, 403):
            raise OpenWebUIError(_refused(status, body))
        if status >= 300:
            raise OpenWebUIError(f"Open WebUI answered {method} {_bare(path)} with {status}: {_detail(body)}")
        return body

    async def _send(self, method: str, path: str, document: Mapping[str, Any] | None) -> tuple[int, bytes]:
        try:
            async with self._http.request(
                method, self.url + path, json=document, headers=self._headers, allow_redirects=False
            ) as reply:
                body = await _bounded(reply)
                if "json" not in reply.content_type:
                    raise OpenWebUIError(
                        f"{self.url} answers {_bare(path)} with {reply.status} and no JSON: it is no Open WebUI, or of "
                        "a version that has no such route"
                    )
                return reply.status, body
        except TimeoutError as error:
            raise OpenWebUIError(f"Open WebUI at {self.url} did not answer {_bare(path)} in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OpenWebUIError(f"Open WebUI at {self.url} cannot be reached: {_reason(error)}") from error


@asynccontextmanager
async def open_webui(url: str, key: str, *, timeout_s: float = _TIMEOUT_S) -> AsyncIterator[OpenWebUI]:
    """A client of the Open WebUI at this address, which may lie in a private network."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=4, socket_factory=_socket),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    async with session:
        yield OpenWebUI(session, url, key)


def _socket(info: tuple[Any, ...]) -> socket.socket:
    """One for an address that may be asked: clouds hand out credentials at some that no name may lead to."""
    family, kind, protocol, _, place = info
    if reason := refusal(str(place[0]), private=True):
        raise PermissionError(errno.EACCES, reason)
    return socket.socket(family, kind, protocol)


async def _bounded(reply: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in reply.content.iter_any():
        size += len(piece)
        if size > _REPLY_BYTES_MAX:
            raise OpenWebUIError(f"Open WebUI's reply is longer than {_REPLY_BYTES_MAX} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _decoded(body: bytes, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise OpenWebUIError(f"Open WebUI answers {_bare(path)} in a way that is not understood: {error}") from error


def _refused(status: int, body: bytes) -> str:
    return (
        f"Open WebUI refuses the admin key ({status}: {_detail(body)}): it must be the API key of an administrator; "
        "API keys are switched on there under Admin Settings, General"
    )


def _detail(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return "no reason given"
    detail = said.get("detail", said.get("error", said)) if isinstance(said, dict) else said
    return str(detail)[:_DETAIL_CHARS]


def _reason(error: Exception) -> str:
    return str(error)[:_DETAIL_CHARS] or type(error).__name__


def _bare(path: str) -> str:
    return path.partition("?")[0]

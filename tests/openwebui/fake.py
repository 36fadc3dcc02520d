"""A small Open WebUI on a real socket: the routes of its admin API that Farebox asks, with its shapes and its manners.

Its manners are those of version 0.12.4: pages of thirty users, an unknown path answers with a page of HTML and 200, a
connection is tried by calling its address followed by ``/models``. A test changes ``users`` and the rest as it likes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
from aiohttp import web

ADMIN_KEY = "sk-admin-of-open-webui"
PAGE = 30


class FakeOpenWebUI:
    """``url`` is its address. ``forwards`` and ``secret`` are its environment; ``asked`` is what was asked of it."""

    def __init__(self) -> None:
        self.url = ""
        self.version = "0.12.4"
        self.forwards = True
        self.secret: str | None = None
        self.users: list[dict[str, Any]] = [person("Admin", "admin@example.org", role="admin")]
        self.circles: list[dict[str, Any]] = []
        self.connections: dict[str, Any] = {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": ["https://api.openai.com/v1"],
            "OPENAI_API_KEYS": [""],
            "OPENAI_API_CONFIGS": {},
        }
        self.defaults: dict[str, Any] = {
            "DEFAULT_MODELS": None,
            "DEFAULT_PINNED_MODELS": None,
            "MODEL_ORDER_LIST": [],
            "DEFAULT_MODEL_METADATA": {},
            "DEFAULT_MODEL_PARAMS": {},
        }
        self.embedding = {"status": True, "RAG_EMBEDDING_ENGINE": "openai", "RAG_EMBEDDING_BATCH_SIZE": 1}
        self.ollama = True
        self.direct = False
        self.shown: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.webhooks: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.broken: dict[str, int] = {}
        """Paths (with the query) that answer with this status."""
        self.goes_on: asyncio.Event | None = None
        """While it is there and not set, the list of users does not come."""

    # -- what a test does to it

    def add(self, name: str, email: str = "", role: str = "user", groups: tuple[str, ...] = ()) -> str:
        """Somebody more; the id."""
        self.users.append(person(name, email or f"{name.lower()}@example.org", role, groups))
        return str(self.users[-1]["id"])

    def user(self, user_id: str) -> dict[str, Any]:
        return next(each for each in self.users if each["id"] == user_id)

    def remove(self, user_id: str) -> None:
        self.users = [each for each in self.users if each["id"] != user_id]

    def group(self, name: str, above: str | None = None) -> str:
        """A group more; the id."""
        self.circles.append({"id": str(uuid4()), "name": name, "description": "", "parent_group_id": above})
        return str(self.circles[-1]["id"])

    def written(self) -> list[tuple[str, str]]:
        """What was written to it."""
        return [each for each in self.asked if each[0] != "GET" and each[1] != "/openai/verify"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeOpenWebUI]:
        """On a port of its own until the block ends."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    # -- what it answers

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path))
        if (status := self.broken.get(request.path_qs) or self.broken.get(request.path)) is not None:
            return web.json_response({"detail": "broken on purpose"}, status=status)
        if request.path == "/api/version":
            return web.json_response({"version": self.version, "deployment_id": ""})
        routes = self._routes()
        route = next((there for (method, path), there in routes.items() if _fits(request, method, path)), None)
        if route is None:
            return web.Response(text="<!doctype html><html></html>", content_type="text/html")
        if request.headers.get("authorization") != f"Bearer {ADMIN_KEY}":
            return web.json_response({"detail": "401 Unauthorized"}, status=401)
        body = await request.json() if request.can_read_body else None
        answer: web.StreamResponse = await route(request, body)
        return answer

    def _routes(self) -> dict[tuple[str, str], Any]:
        return {
            ("GET", "/openai/config"): self._read("connections"),
            ("POST", "/openai/config/update"): self._write_connections,
            ("POST", "/openai/verify"): self._verify,
            ("GET", "/ollama/config"): self._fixed(lambda: {"ENABLE_OLLAMA_API": self.ollama, "OLLAMA_BASE_URLS": []}),
            ("GET", "/api/v1/configs/connections"): self._fixed(lambda: {"ENABLE_DIRECT_CONNECTIONS": self.direct}),
            ("GET", "/api/v1/configs/models"): self._read("defaults"),
            ("POST", "/api/v1/configs/models"): self._write_defaults,
            ("GET", "/api/v1/retrieval/embedding"): self._read("embedding"),
            ("GET", "/api/v1/users/"): self._users,
            ("GET", "/api/v1/groups/"): self._read("circles"),
            ("GET", "/api/models"): self._fixed(lambda: {"data": self.shown}),
            ("GET", "/api/v1/models/base"): self._read("rows"),
            ("POST", "/api/v1/models/create"): self._make_row,
            ("POST", "/api/v1/models/model/update"): self._change_row,
            ("POST", "/api/v1/models/model/access/update"): self._set_access,
            ("GET", "/api/events/webhooks"): self._read("webhooks"),
            ("POST", "/api/events/webhooks"): self._make_webhook,
            ("PUT", "/api/events/webhooks/*"): self._change_webhook,
        }

    def _read(self, name: str) -> Any:
        return self._fixed(lambda: getattr(self, name))

    def _fixed(self, value: Any) -> Any:
        async def answer(request: web.Request, body: Any) -> web.Response:
            return web.json_response(value())

        return answer

    async def _users(self, request: web.Request, body: Any) -> web.Response:
        if self.goes_on is not None:
            await self.goes_on.wait()
        page = int(request.query.get("page", 1))
        ordered = sorted(self.users, key=lambda each: str(each["email"]))
        return web.json_response({"users": ordered[(page - 1) * PAGE : page * PAGE], "total": len(self.users)})

    async def _write_connections(self, request: web.Request, body: Any) -> web.Response:
        self.connections = body
        return web.json_response(body)

    async def _write_defaults(self, request: web.Request, body: Any) -> web.Response:
        self.defaults = body
        return web.json_response(body)

    async def _verify(self, request: web.Request, body: Any) -> web.Response:
        """Calls the connection, with the headers a call would have."""
        config = body.get("config") or {}
        headers = {"authorization": f"Bearer {body['key']}", **self._identity()}
        headers |= dict.fromkeys(config.get("headers") or {}, "")
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{body['url']}/models", headers=headers) as reply:
                return web.json_response(await reply.json(), status=reply.status)
        except (aiohttp.ClientError, ValueError):
            return web.json_response({"detail": "Open WebUI: Server Connection Error"}, status=500)

    def _identity(self) -> dict[str, str]:
        if not self.forwards:
            return {}
        admin = self.users[0]
        if self.secret is None:
            return {"X-OpenWebUI-User-Id": admin["id"], "X-OpenWebUI-User-Email": admin["email"]}
        claims = {"sub": admin["id"], "email": admin["email"], "name": admin["name"], "iss": "open-webui"}
        claims |= {"role": "admin", "iat": int(time.time()), "exp": int(time.time()) + 300}
        return {"X-OpenWebUI-User-Jwt": jwt.encode(claims, self.secret, algorithm="HS256")}

    async def _make_row(self, request: web.Request, body: Any) -> web.Response:
        self.rows.append({"version_id": str(uuid4()), **body, "meta": {"profile_image_url": None, **body["meta"]}})
        return web.json_response(self.rows[-1])

    async def _change_row(self, request: web.Request, body: Any) -> web.Response:
        row = next(each for each in self.rows if each["id"] == body["id"])
        row.update({name: value for name, value in body.items() if name != "access_grants"})
        return web.json_response(row)

    async def _set_access(self, request: web.Request, body: Any) -> web.Response:
        row = next(each for each in self.rows if each["id"] == body["id"])
        row["access_grants"] = body["access_grants"]
        return web.json_response(row)

    async def _make_webhook(self, request: web.Request, body: Any) -> web.Response:
        self.webhooks.append({"id": str(uuid4()), "targets": None, **body})
        return web.json_response(self.webhooks[-1])

    async def _change_webhook(self, request: web.Request, body: Any) -> web.Response:
        webhook = next(each for each in self.webhooks if each["id"] == request.path.rpartition("/")[2])
        webhook.update(body)
        return web.json_response(webhook)


_COUNT = itertools.count(1)


def person(name: str, email: str, role: str = "user", groups: tuple[str, ...] = ()) -> dict[str, Any]:
    """A user as the list has one."""
    seconds = 1_795_000_000 + next(_COUNT)
    return {
        "id": str(uuid4()),
        "email": email,
        "name": name,
        "role": role,
        "group_ids": list(groups),
        "profile_image_url": "/user.png",
        "settings": None,
        "created_at": seconds,
        "last_active_at": seconds,
    }


def entry(model_id: str, index: int, **more: Any) -> dict[str, Any]:
    """A model in the list, as a connection's becomes one."""
    own = {"id": model_id, "object": "model", **more}
    return {**own, "name": own.get("name", model_id), "owned_by": "openai", "openai": own, "urlIdx": index, "tags": []}


def _fits(request: web.Request, method: str, path: str) -> bool:
    if path.endswith("*"):
        return request.method == method and request.path.startswith(path[:-1])
    return (request.method, request.path) == (method, path)

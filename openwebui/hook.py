"""The address Open WebUI's webhook tells of events. Whatever it is told, it only has a sync begin soon.

Open WebUI signs nothing and sends no header of its own, so the secret is in the address. Nothing of what comes is read.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from openwebui.shapes import Webhook

PREFIX = "/hooks/openwebui/"
NAME = "Farebox"
EVENTS = (
    "user.created", "user.updated", "user.deleted", "user.role_updated", "user.profile_updated", "group.*",
    "model.created", "model.updated", "model.deleted", "model.enabled", "model.disabled", "model.access_updated",
)  # fmt: skip
"""Not all of users and models: each call that is refused here is an event of its model there."""

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def hook_secret(pepper: bytes) -> str:
    """The last part of the address: the same on every replica, and kept nowhere."""
    return hmac.digest(pepper, b"farebox open webui hook", "sha256").hex()


def hook_url(base: str, pepper: bytes) -> str:
    """The whole address. It is a secret, if a small one: who knows it can have us look at our own Open WebUI."""
    return f"{base.rstrip('/')}{PREFIX}{hook_secret(pepper)}"


def wanted(webhooks: Iterable[Webhook], url: str) -> tuple[str | None, Mapping[str, Any] | None]:
    """What is to be sent so that Open WebUI tells this address: the id of the webhook to change (None: one is added),
    and the document; no document where all is as it should be. One is ours by its address, else by name and path."""
    document = {"name": NAME, "url": url, "enabled": True, "events": list(EVENTS)}
    ours = [each for each in webhooks if each.url == url or (each.name == NAME and PREFIX in each.url)]
    for webhook in ours[:1]:
        right = (webhook.url, webhook.enabled, set(webhook.events)) == (url, True, set(EVENTS))
        return webhook.id, None if right else document
    return None, document


class Hook:
    """The ASGI application behind the address: 204 for whoever knows it, 404 for everybody else."""

    def __init__(self, pepper: bytes, nudge: Callable[[], None]) -> None:
        self._path = f"{PREFIX}{hook_secret(pepper)}".encode()
        self._nudge = nudge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        right = hmac.compare_digest(str(scope["path"]).encode("utf-8", "replace"), self._path)
        if right and scope["method"] == "POST":
            self._nudge()
            return await _answer(send, 204)
        await _answer(send, 405 if right else 404)


async def _answer(send: Send, status: int) -> None:
    headers = [(b"cache-control", b"no-store"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers if status != 204 else headers[:1]})
    await send({"type": "http.response.body", "body": b""})

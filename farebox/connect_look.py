"""What is looked at in an Open WebUI besides its connection to Farebox: whatever would leave people without models,
uploads without embeddings, or calls without a bill. Nothing is changed here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator

from farebox.findings import Found, Verdict
from openwebui.client import OpenWebUI, OpenWebUIError
from openwebui.connection import Connection, connections_of
from openwebui.shapes import Row, Shown

AREA = "open webui"
_TRIED = (0, 12)
_ACCESS = "model access"
_BATCH_MIN = 8

Looking = Callable[[OpenWebUI, Connection | None, str], Awaitable[list[Found]]]


async def look_at_version(openwebui: OpenWebUI) -> Found:
    """Which Open WebUI it is. Raises OpenWebUIError."""
    version = await openwebui.version()
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return Found(AREA, "version", "warning", f"says no version that is understood: {version or 'none'}")
    release = (int(numbers[1]), int(numbers[2]))
    if release < _TRIED:
        return Found(AREA, "version", "warning", f"{version} is older than 0.12: it names users and errors otherwise")
    if release > _TRIED:
        return Found(AREA, "version", "note", f"{version} is newer than what this release was tried with, 0.12")
    return Found(AREA, "version", "ok", version)


async def look_at_openwebui(
    openwebui: OpenWebUI, connection: Connection | None, service_url: str, *, people_chat: bool = False
) -> list[Found]:
    """Everything else. What cannot be looked at is told as that. ``people_chat``: ordinary users were seen to chat, so
    they see models there, whatever its API says."""
    looked = await asyncio.gather(
        *(_attempt(subject, look, openwebui, connection, service_url) for subject, look in _LOOKS)
    )
    return [_known(found, people_chat) for some in looked for found in some]


async def _attempt(
    subject: str, look: Looking, openwebui: OpenWebUI, connection: Connection | None, service_url: str
) -> list[Found]:
    try:
        return await look(openwebui, connection, service_url)
    except OpenWebUIError as error:
        return [Found(AREA, subject, "warning", f"could not be looked at: {error}")]


async def _connections(openwebui: OpenWebUI, connection: Connection | None, service_url: str) -> list[Found]:
    """Ours, and the operator's others."""
    known = connections_of(await openwebui.connections())
    return list(_ours(connection, service_url)) + list(_others(known, connection))


def _ours(connection: Connection | None, service_url: str) -> Iterator[Found]:
    if connection is None:
        yield Found(AREA, "connection", "warning", f"there is none to {service_url}")
        return
    yield Found(AREA, "connection", "ok", f"number {connection.index + 1} leads to {connection.url}")
    if connection.config.get("model_ids"):
        says = "shows a fixed list of models: what Farebox offers besides is not seen there"
        yield Found(AREA, "connection", "note", says)
    if connection.config.get("api_type") == "responses":
        yield Found(AREA, "connection", "note", "speaks the Responses API")


def _others(known: list[Connection], connection: Connection | None) -> Iterator[Found]:
    for each in known:
        if connection is not None and each.index == connection.index:
            continue
        if connection is not None and each.url.rstrip("/") == connection.url.rstrip("/"):
            yield Found(AREA, "connection", "warning", f"number {each.index + 1} leads to Farebox, too: remove one")
        elif each.enabled and each.key:
            says = f"chats by {each.url} pass Farebox by, and nobody is charged for them"
            yield Found(AREA, "other connections", "warning", says)


async def _models(openwebui: OpenWebUI, connection: Connection | None, service_url: str) -> list[Found]:
    """Whether ordinary users see any."""
    if connection is None:
        return []
    listed = (await openwebui.shown_models()).data
    mine = [each for each in listed if each.url_index == connection.index and not each.preset]
    if not mine:
        says = "none of Farebox is in the list: are there models here, and does Open WebUI reach them?"
        return [Found(AREA, "models", "error", says)]
    return [_seen(mine, {row.id: row for row in await openwebui.model_rows()})]


def _seen(mine: list[Shown], rows: dict[str, Row]) -> Found:
    closed = [each.id for each in mine if each.id not in rows or not rows[each.id].access_grants]
    if not closed:
        return Found(AREA, "models", "ok", f"{len(mine)} are shown, each granted to somebody")
    says = (
        f"{len(closed)} of {len(mine)} are granted to nobody: ordinary users see them only with "
        "BYPASS_MODEL_ACCESS_CONTROL=true, which Open WebUI tells nobody. Set it, or grant them: "
        "farebox sync openwebui --grants"
    )
    return Found(AREA, _ACCESS, "warning" if len(closed) == len(mine) else "note", says)


def _known(found: Found, people_chat: bool) -> Found:
    if found.subject != _ACCESS or not people_chat:
        return found
    return Found(AREA, _ACCESS, "ok", "ordinary users see models: they were charged for some")


async def _embedding(openwebui: OpenWebUI, connection: Connection | None, service_url: str) -> list[Found]:
    embedding = await openwebui.embedding()
    if embedding.rag_embedding_engine != "openai":
        engine = embedding.rag_embedding_engine or "Open WebUI itself"
        return [Found(AREA, "embeddings", "note", f"are made by {engine}: nobody is charged for them")]
    asked = embedding.openai_config.url.rstrip("/")
    if asked and asked not in (service_url.rstrip("/"), connection.url.rstrip("/") if connection else ""):
        return [Found(AREA, "embeddings", "note", _elsewhere(asked, service_url))]
    size = embedding.rag_embedding_batch_size
    if size < _BATCH_MIN:
        says = f"are asked for {size} at a time, so one upload is dozens of calls: set the batch size to 64 and the "
        says += "concurrent requests to 4 (there: Admin Settings, Documents; before its first start: the environment)"
        return [Found(AREA, "embeddings", "warning", says)]
    return [Found(AREA, "embeddings", "ok", f"are asked for {size} at a time")]


def _elsewhere(asked: str, service_url: str) -> str:
    return (
        f"are asked for at {asked}, past Farebox, and nobody is charged: set {service_url} and a key of its own "
        "(there: Admin Settings, Documents; here: farebox key create documents --forward-users)"
    )


async def _ollama(openwebui: OpenWebUI, connection: Connection | None, service_url: str) -> list[Found]:
    says = "is on: chats with its models pass Farebox by, and nobody is charged for them (ENABLE_OLLAMA_API=false)"
    return [_switch("ollama", await openwebui.uses_ollama(), "warning", says)]


async def _direct(openwebui: OpenWebUI, connection: Connection | None, service_url: str) -> list[Found]:
    says = "are allowed: people may chat past Farebox with keys of their own (ENABLE_DIRECT_CONNECTIONS)"
    return [_switch("direct connections", await openwebui.direct_connections(), "note", says)]


def _switch(subject: str, on: bool, verdict: Verdict, says: str) -> Found:
    return Found(AREA, subject, verdict, says) if on else Found(AREA, subject, "ok", "off")


_LOOKS: tuple[tuple[str, Looking], ...] = (
    ("connection", _connections),
    ("models", _models),
    ("embeddings", _embedding),
    ("ollama", _ollama),
    ("direct connections", _direct),
)

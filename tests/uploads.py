"""What stories about uploads share: a Farebox with models for them, forms on their way, and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import house
from tests.backend import Backend, json_answer
from tests.gateway.forms import CONTENT_TYPE, file, form
from tests.gateway.test_duration import wav
from tests.house import Answer, Caller, Farebox, until

MODELS = """
[[upstreams]]
name = "spare"
base_url = "{spare}"
allow_private = true

[[models]]
id = "whisper"
upstream = "main"
upstream_model = "whisper-large"
kind = "transcription"
fallback = "scribe"
prices = {{ seconds = "0.000001" }}

[[models]]
id = "scribe"
upstream = "spare"
kind = "transcription"
prices = {{ seconds = "0.000003" }}

[[models]]
id = "alone"
upstream = "main"
kind = "transcription"
prices = {{ seconds = "0.000001" }}

[[models]]
id = "artist"
upstream = "main"
kind = "image"
prices = {{ images = "0.04", variants = {{ "1024x1024/hd" = {{ images = "0.08" }} }} }}

[[tiers]]
name = "single"
concurrency = 1
"""
SECOND = 1000  # nano-USD
SOUND = file("file", wav(10.0))  # 640 kB
HUGE = file("file", random.Random(3).randbytes(24_000_000))  # more than two sockets hold
WORD = {"text": "Hello."}

Open = Callable[..., AbstractAsyncContextManager[Farebox]]


def opener(data_dir: Path, database_url: str, redis_url: str, backend: Backend, spare: Backend) -> Open:
    """Opens a Farebox with these settings and ``more`` of a catalogue; when it closes, no upload is left."""

    @asynccontextmanager
    async def opened(more: str = "", **settings: Any) -> AsyncIterator[Farebox]:
        backend.answer = spare.answer = json_answer(WORD)
        urls = database_url, redis_url, backend.url
        catalog = MODELS.format(spare=spare.url) + more
        async with house.farebox(data_dir, *urls, catalog=catalog, **settings) as farebox:
            yield farebox
            await nothing_left(farebox, data_dir)

    return opened


async def nothing_left(farebox: Farebox, data_dir: Path) -> None:
    """No room is taken, no file is open, none has a name."""
    await farebox.settled()
    await all_free(farebox)
    assert list((data_dir / "uploads").iterdir()) == []
    assert not await farebox.broken()


async def all_free(farebox: Farebox) -> None:
    """Wait until no upload takes room and none is open."""

    async def is_free() -> bool:
        return on_disk(farebox) == 0 and not open_files()

    await until(is_free)


def on_disk(farebox: Farebox) -> int:
    """Bytes that uploads take, as the metrics tell."""
    told = re.search(rb"^farebox_uploads_bytes (\S+)$", farebox.run.gateway.metrics.render(), re.MULTILINE)
    assert told is not None
    return int(float(told[1]))


def open_files() -> list[str]:
    """The uploads this process has open, where the system tells."""
    folder = Path("/proc/self/fd")
    links = [os.readlink(link) for link in folder.iterdir() if link.is_symlink()] if folder.exists() else []
    return [link for link in links if "/uploads/" in link]


async def asked(
    farebox: Farebox, ada: Caller, *parts: bytes, path: str = "audio/transcriptions", chunked: bool = False
) -> Answer:
    """The answer to a form of these parts."""
    body = form(*parts)
    headers = {**ada.headers, "content-type": CONTENT_TYPE}
    return await sent(farebox, path, body, headers if chunked else {**headers, "content-length": str(len(body))})


async def sent(farebox: Farebox, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    """The answer to a body that is sent piece by piece."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 100_000):
            yield body[at : at + 100_000]

    async with farebox.http.post(f"{farebox.url}/v1/{path}", data=pieces(), headers=headers) as reply:
        return Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read())


@asynccontextmanager
async def half_sent(
    farebox: Farebox, ada: Caller, body: bytes, size: int = 500_000
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which so much of a transcription's form has arrived; leaving the block hangs up."""
    address = urlsplit(farebox.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: a\r\ncontent-type: {CONTENT_TYPE}\r\n"
        head += f"authorization: Bearer {ada.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        before = on_disk(farebox)
        writer.write(head.encode() + body[:size])

        async def has_begun() -> bool:
            return on_disk(farebox) > before

        await until(has_begun)
        yield reader, writer
    finally:
        writer.close()


async def status_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and all the rest of a reply's head, and what came with it."""
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), head + await reader.read(10_000)

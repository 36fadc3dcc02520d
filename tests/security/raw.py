"""Bytes onto the socket of a running Farebox, and what comes back: no client in between that would tidy them up."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

from tests.house import Caller, Farebox


async def exchange(farebox: Farebox, sent: bytes, *, replies: int = 1) -> bytes:
    """What comes back until the connection is closed, or nothing more comes for a while after so many replies."""
    reader, writer = await connected(farebox)
    try:
        writer.write(sent)
        return await heard(reader, replies=replies)
    finally:
        writer.transport.abort()


async def connected(farebox: Farebox) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the front door."""
    url = urlsplit(farebox.url)
    return await asyncio.open_connection(url.hostname, url.port)


async def heard(reader: asyncio.StreamReader, quiet_s: float = 0.5, *, replies: int = 1) -> bytes:
    """All that comes until the other side closes, or is quiet for so long after so many replies."""
    got = b""
    while True:
        try:
            piece = await asyncio.wait_for(reader.read(65_536), quiet_s if len(statuses(got)) >= replies else 30)
        except (TimeoutError, ConnectionError):
            return got
        if not piece:
            return got
        got += piece


async def closes(reader: asyncio.StreamReader, within_s: float = 20.0) -> bool:
    """Whether the other side closes the connection in time."""
    try:
        async with asyncio.timeout(within_s):
            while await reader.read(65_536):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def statuses(replies: bytes) -> list[int]:
    """The status of each reply that came."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", replies)]


def request(caller: Caller, body: bytes, *headers: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    """A request with exactly these headers beside host and key."""
    lines = [b"POST %s HTTP/1.1" % path, b"host: farebox", b"authorization: Bearer %s" % caller.key.encode(), *headers]
    return b"\r\n".join((*lines, b"", b"")) + body


def chat(content: bytes = b"hello") -> bytes:
    """The body of a chat."""
    return b'{"model":"small","messages":[{"role":"user","content":"%s"}]}' % content


def whole(caller: Caller, content: bytes = b"hello", *headers: bytes) -> bytes:
    """A request as it should be."""
    body = chat(content)
    return request(caller, body, b"content-type: application/json", b"content-length: %d" % len(body), *headers)

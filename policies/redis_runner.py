"""How commands travel to Redis: one at a time to a Cluster, many in one trip to a single server.

Knows no limits and no scripts. Errors of redis-py go through as they are; `BucketsBusy` is this file's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from policies.buckets import BucketsBusy

Command = tuple[str | bytes | int, ...]
Abandoned = Callable[[Any], None]
"""Called with the reply of a command whose caller had left by the time it came."""


class Runner(Protocol):
    """Runs one command. The caller may leave at any time; what was sent is then still brought to its end."""

    async def run(self, command: Command, abandoned: Abandoned | None = None) -> Any: ...

    async def aclose(self) -> None: ...


class _Entry:
    """One command that waits for its reply."""

    __slots__ = ("abandoned", "command", "reply")

    def __init__(self, command: Command, abandoned: Abandoned | None) -> None:
        self.command = command
        self.abandoned = abandoned
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def answer(self) -> Any:
        """The reply, or what was raised instead."""
        try:
            return await self.reply
        except asyncio.CancelledError:
            # Cancelled between the reply's coming and this task's waking: the reply is nobody's, too.
            if self.abandoned and not self.reply.cancelled() and self.reply.exception() is None:
                self.abandoned(self.reply.result())
            raise

    def resolve(self, reply: Any) -> None:
        if not self.reply.done():
            self._hand_over(reply)
        elif self.abandoned and not isinstance(reply, Exception):
            self.abandoned(reply)

    def _hand_over(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.reply.set_exception(reply)
        else:
            self.reply.set_result(reply)


class PipelineRunner:
    """Commands of concurrent calls share a trip: the next batch leaves when the last one has come back.

    Nobody waits for a timer: a command alone leaves at once, and under load the batches grow by themselves. At most
    `batch_max` commands a trip and `waiting_max` waiting.
    """

    def __init__(self, client: Redis, batch_max: int = 128, waiting_max: int = 4096) -> None:
        self._client = client
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Entry] = deque()
        self._trips: asyncio.Task[None] | None = None

    async def run(self, command: Command, abandoned: Abandoned | None = None) -> Any:
        if len(self._waiting) >= self._waiting_max:
            raise BucketsBusy(f"{self._waiting_max} commands are waiting for Redis already")
        entry = _Entry(command, abandoned)
        self._waiting.append(entry)
        if self._trips is None or self._trips.done():
            self._trips = asyncio.create_task(self._travel())
        return await entry.answer()

    async def aclose(self) -> None:
        """Waits for what was sent, then closes the client."""
        if self._trips is not None:
            await asyncio.wait([self._trips])
        await self._client.aclose()

    async def _travel(self) -> None:
        while batch := self._board():
            try:
                await self._carry(batch)
            except Exception as error:
                # Every waiting caller hears it: were each batch to find out by itself, the last would wait for many
                # timeouts, and a caller whose reply is never resolved waits for ever.
                _resolve_all((*batch, *self._waiting), error)
                self._waiting.clear()

    async def _carry(self, batch: list[_Entry]) -> None:
        """One trip after the other while somebody waits, over one connection of the client's pool. ``batch`` is what
        travels at the moment."""
        pool = self._client.connection_pool
        connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call] # theirs
        try:
            while batch:
                replies = await _asked(connection, [entry.command for entry in batch])
                for entry, reply in zip(batch, replies, strict=True):
                    entry.resolve(reply)
                batch[:] = self._board()
        finally:
            await pool.release(connection)

    def _board(self) -> list[_Entry]:
        """The next batch; callers that have left already need no trip. Empty: nobody waits."""
        batch: list[_Entry] = []
        while self._waiting and len(batch) < self._batch_max:
            entry = self._waiting.popleft()
            if not entry.reply.done():
                batch.append(entry)
        return batch


async def _asked(connection: AbstractConnection, commands: list[Command]) -> list[Any]:
    """One trip; a failure closes the connection.

    Not through the client's own pipeline object, which packs the commands in Python and sets a timer for each reply:
    together more than half of the CPU of a trip. Nor through the connection's own sending, which makes a task for it.
    """
    try:
        # One bound for the whole trip.
        async with asyncio.timeout(connection.socket_timeout):
            await connection._send_packed_command([_packed(commands)])
            return [await _reply(connection) for _ in commands]
    except (AttributeError, RuntimeError) as error:
        # The other side has hung up meanwhile: redis-py's end is gone then, or the event loop's, which says so in its
        # own way.
        await connection.disconnect(nowait=True)
        raise RedisConnectionError("the connection was closed") from error
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


def _packed(commands: list[Command]) -> bytes:
    return b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type] # their stub: 1-tuples


async def _reply(connection: AbstractConnection) -> Any:
    """The next reply; an error that concerns one command only is returned."""
    try:
        return await connection.read_response(timeout=inf)
    except ResponseError as error:
        return error


class ClusterRunner:
    """Each command goes by itself to the node of its keys.

    At most `travelling_max` at once (redis-py opens up to 100 connections a node) and `open_max` with those that wait;
    nobody waits longer than `wait_max_s`.
    """

    def __init__(
        self, client: RedisCluster, travelling_max: int = 64, open_max: int = 4096, wait_max_s: float = 1.0
    ) -> None:
        self._client = client
        self._gate = asyncio.Semaphore(travelling_max)
        self._open_max = open_max
        self._wait_max_s = wait_max_s
        self._open: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._started = False

    async def run(self, command: Command, abandoned: Abandoned | None = None) -> Any:
        if len(self._open) >= self._open_max:
            raise BucketsBusy(f"{self._open_max} commands are open to Redis already")
        entry = _Entry(command, abandoned)
        # A task of its own, so that a caller who leaves does not cut the command off after it was sent.
        task = asyncio.create_task(self._resolve(entry))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return await entry.answer()

    async def aclose(self) -> None:
        """Waits for what was sent, then closes the client."""
        if self._open:
            await asyncio.wait(self._open)
        await self._client.aclose()

    async def _resolve(self, entry: _Entry) -> None:
        try:
            await self._pass_gate()
            try:
                entry.resolve(await self._send(entry.command))
            finally:
                self._gate.release()
        except Exception as error:
            # Handed to the caller, who would otherwise wait for ever.
            entry.resolve(error)

    async def _pass_gate(self) -> None:
        try:
            async with asyncio.timeout(self._wait_max_s):
                await self._gate.acquire()
        except TimeoutError as error:
            raise BucketsBusy("too many commands are on their way to Redis") from error

    async def _send(self, command: Command) -> Any:
        await self._start()
        try:
            return await self._client.execute_command(*command)
        except (AttributeError, RuntimeError) as error:
            # redis-py writes to a connection that another of its tasks has closed while it reads the topology anew:
            # its own is gone then, or the event loop's, which says so in its own way.
            raise RedisConnectionError("the connection was closed") from error

    async def _start(self) -> None:
        """Learns the topology before the first command: redis-py cuts commands off that run while it learns."""
        async with self._starting:
            if not self._started:
                await self._client.initialize()
                self._started = True


def _resolve_all(entries: Iterable[_Entry], reply: object) -> None:
    for entry in entries:
        entry.resolve(reply)

"""How commands travel to Redis: one at a time to a Cluster, many in one trip to a single server.

Knows no limits and no scripts. Errors of redis-py go through as they are; `BucketsBusy` is this file's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from policies.buckets import BucketsBusy
from policies.redis_command import unpacked
from policies.redis_wire import Entry, Wire

Abandoned = Callable[[Any], None]
"""Called with the reply of a command whose caller had left by the time it came."""

Told = Callable[[Any], None]
"""Called once with the reply of a command nobody waits for, or with what was raised instead. Never raises."""


class Runner(Protocol):
    """Runs commands, in the order in which they came where they are for one server. Both raise `BucketsBusy`."""

    async def run(self, command: bytes, abandoned: Abandoned | None = None) -> Any:
        """The reply. The caller may leave at any time; what was sent is then still brought to its end."""
        ...

    def tell(self, command: bytes, told: Told) -> None:
        """Sends without waiting."""
        ...

    async def aclose(self) -> None: ...


class _Entry(Struct, eq=False):
    """One command that waits for its reply."""

    packed: bytes
    reply: asyncio.Future[Any]
    abandoned: Abandoned | None

    @property
    def left(self) -> bool:
        """Whether nobody waits any more."""
        return self.reply.done()

    def leave(self) -> None:
        """The caller has left. Where that was between the reply's coming and its waking, the reply is nobody's."""
        if self.abandoned and not self.reply.cancelled() and self.reply.exception() is None:
            self.abandoned(self.reply.result())

    def resolve(self, reply: Any) -> None:
        future = self.reply
        if future.done():
            if self.abandoned and not isinstance(reply, Exception):
                self.abandoned(reply)
        elif isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)


class _Message(Struct, eq=False):
    """One command whose sender does not wait; ``resolve`` hears the reply, or what was raised instead."""

    packed: bytes
    resolve: Told
    left: ClassVar[bool] = False


class PipelineRunner:
    """Commands of concurrent calls share a trip: the next batch leaves when the last one has come back.

    Nobody waits for a timer: what comes in one turn of the loop leaves at its end, and under load the batches grow by
    themselves. At most `batch_max` commands a trip and `waiting_max` waiting. One connection of the client's pool is
    kept; where it is lost, whoever waits hears of it, and the next command opens it again.
    """

    def __init__(self, client: Redis, batch_max: int = 128, waiting_max: int = 4096) -> None:
        self._client = client
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Entry | _Message] = deque()
        self._connection: AbstractConnection | None = None
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._travelling = False  # a batch is on its way, or about to leave
        self._quiet: asyncio.Future[None] | None = None

    async def run(self, command: bytes, abandoned: Abandoned | None = None) -> Any:
        entry = _Entry(command, asyncio.get_running_loop().create_future(), abandoned)
        self._enqueue(entry)
        try:
            return await entry.reply
        except asyncio.CancelledError:
            entry.leave()
            raise

    def tell(self, command: bytes, told: Told) -> None:
        self._enqueue(_Message(command, told))

    async def aclose(self) -> None:
        """Waits for what was sent, then closes the client."""
        while self._travelling:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet
        if self._wire is not None:
            self._wire.close()
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            await self._client.connection_pool.release(self._connection)
            self._connection = None
        await self._client.aclose()

    def _enqueue(self, entry: _Entry | _Message) -> None:
        if len(self._waiting) >= self._waiting_max:
            raise BucketsBusy(f"{self._waiting_max} commands are waiting for Redis already")
        self._waiting.append(entry)
        if not self._travelling:
            self._travelling = True
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        batch = self._board()
        if not batch:
            self._travelling = False
            if self._quiet is not None and not self._quiet.done():
                self._quiet.set_result(None)
        elif self._wire is not None and not self._wire.closed:
            self._wire.send(batch)
        else:
            self._opening = asyncio.create_task(self._open_for(batch))

    def _board(self) -> list[Entry]:
        """The next batch; callers that have left already need no trip. Empty: nobody waits."""
        batch: list[Entry] = []
        while self._waiting and not batch:
            boarding = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_max))]
            batch = [entry for entry in boarding if not entry.left]
        return batch

    async def _open_for(self, batch: list[Entry]) -> None:
        try:
            self._wire = Wire(await self._connected(), self._depart, self._lost)
            self._wire.send(batch)
        except Exception as error:
            self._fail(batch, error)

    async def _connected(self) -> AbstractConnection:
        """The connection, open and idle. Bounded by redis-py, as its URL and settings say."""
        try:
            if self._connection is None:
                self._connection = await self._client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            else:
                await self._connection.disconnect(nowait=True)
                await self._connection.connect()  # type: ignore[no-untyped-call] # theirs, both
            return self._connection
        except (AttributeError, RuntimeError) as error:
            # The other side has hung up meanwhile: redis-py's end is gone then, or the event loop's, which says so in
            # its own way.
            raise RedisConnectionError("the connection was closed") from error

    def _lost(self, flying: Sequence[Entry], error: Exception) -> None:
        self._wire = None
        if flying:
            self._fail(flying, error)

    def _fail(self, flying: Sequence[Entry], error: Exception) -> None:
        """Every waiting caller hears it: were each batch to find out by itself, the last would wait for many time-outs,
        and a caller whose reply is never resolved waits for ever."""
        waiting, self._waiting = self._waiting, deque()
        for entry in (*flying, *waiting):
            entry.resolve(error)
        self._depart()


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

    async def run(self, command: bytes, abandoned: Abandoned | None = None) -> Any:
        entry = _Entry(command, asyncio.get_running_loop().create_future(), abandoned)
        self._begin(entry)
        try:
            return await entry.reply
        except asyncio.CancelledError:
            entry.leave()
            raise

    def tell(self, command: bytes, told: Told) -> None:
        self._begin(_Message(command, told))

    async def aclose(self) -> None:
        """Waits for what was sent, then closes the client."""
        while self._open:
            await asyncio.wait(self._open)
        await self._client.aclose()

    def _begin(self, entry: _Entry | _Message) -> None:
        if len(self._open) >= self._open_max:
            raise BucketsBusy(f"{self._open_max} commands are open to Redis already")
        # A task of its own, so that a caller who leaves does not cut the command off after it was sent.
        task = asyncio.create_task(self._resolve(entry))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _resolve(self, entry: _Entry | _Message) -> None:
        try:
            await self._pass_gate()
            try:
                entry.resolve(await self._send(entry.packed))
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

    async def _send(self, command: bytes) -> Any:
        await self._start()
        try:
            name, *parts = unpacked(command)
            return await self._client.execute_command(name.decode(), *parts)
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

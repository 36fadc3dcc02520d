"""One connection to a single Redis, over which whole batches travel: one write out, the replies in order back.

redis-py opens it (TLS, user, database and what else the URL says) and hands it over. Its own sending and reading, a
task and several awaits for each reply, cost more than the trip itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hiredis import PushNotification, Reader
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

_NOTHING = object()


class Entry(Protocol):
    """One packed command, and who wants its reply."""

    @property
    def packed(self) -> bytes: ...

    def resolve(self, reply: Any) -> None:
        """Hands over the reply, or the exception that stands for one. Never raises."""
        ...


class Wire(asyncio.Protocol):
    """Carries one batch at a time. ``landed`` hears that all of it is answered; ``lost`` that the connection is gone,
    once, with what was on its way and why.

    The whole batch has the time-out of the connection, by a timer that is set once for many batches.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        landed: Callable[[], None],
        lost: Callable[[Sequence[Entry], Exception], None],
    ) -> None:
        assert connection._writer is not None
        self._transport = connection._writer.transport
        # redis-py's own end is told of the close as well: its disconnecting waits for it.
        self._former = self._transport.get_protocol()
        errors = connection._parser.parse_error
        self._reader = Reader(protocolError=InvalidResponse, replyError=errors, notEnoughData=_NOTHING)
        self._timeout_s: float | None = connection.socket_timeout
        self._landed, self._lost = landed, lost
        self._loop = asyncio.get_running_loop()
        self._flying: deque[Entry] = deque()
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False
        self._transport.set_protocol(self)

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._gone or self._transport.is_closing()

    def send(self, batch: list[Entry]) -> None:
        self._flying.extend(batch)
        self._sent_at = self._loop.time()
        if self._timer is None and self._timeout_s is not None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)
        self._transport.write(b"".join([entry.packed for entry in batch]))

    def close(self) -> None:
        """Nobody waits for anything any more."""
        self._break(RedisConnectionError("the connection was closed here"))

    def data_received(self, data: bytes) -> None:
        flew = bool(self._flying)
        try:
            self._reader.feed(data)
            self._hand_over()
        except (RedisConnectionError, InvalidResponse) as error:
            self._break(error)
            return
        if flew and not self._flying:
            self._landed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._former.connection_lost(exc)
        self._break(RedisConnectionError(f"the connection was closed: {exc}" if exc else "the connection was closed"))

    def _hand_over(self) -> None:
        """Raises an error that concerns the connection: it cannot be used, or Redis is not ready to be asked."""
        gets, flying = self._reader.gets, self._flying
        while (reply := gets()) is not _NOTHING:
            if isinstance(reply, PushNotification):
                continue  # what nobody has asked for
            if isinstance(reply, RedisConnectionError):
                raise reply
            if not flying:
                raise InvalidResponse("Redis answers what it was not asked")
            flying.popleft().resolve(reply)

    def _look(self) -> None:
        """Whether the batch on its way is overdue."""
        self._timer = None
        if not self._flying or self._timeout_s is None:
            return
        left_s = self._sent_at + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self._break(TimeoutError("Redis does not answer in time"))
        else:
            self._timer = self._loop.call_later(left_s, self._look)

    def _break(self, error: Exception) -> None:
        if self._gone:
            return
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        flying = list(self._flying)
        self._flying.clear()
        self._lost(flying, error)

"""Connections to backends between two requests: lent from the library's pool, and kept here until they end or were idle
for too long. Taking one and giving it back is what every call does; the pool is asked only for another one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from aiohttp.connector import Connection

from gateway.wire import Wire


class Lent:
    """One connection, and where it goes."""

    __slots__ = ("_connection", "_idle", "server", "since", "wire")

    def __init__(self, connection: Connection, server: str, idle: Idle | None) -> None:
        wire = connection.protocol
        assert isinstance(wire, Wire)
        self.wire: Wire = wire
        self.server: str = server
        self.since: float = 0.0  # idle since
        self._connection: Connection = connection
        self._idle: Idle | None = idle  # None: the pool counts, and wants it back at once

    def release(self, again: bool) -> None:
        """A request is over; ``again``: the connection can serve another one."""
        if not again:
            self.close()
        elif self._idle is None:
            self._connection.release()
        else:
            self._idle.put(self)

    def close(self) -> None:
        """It serves nobody any more."""
        self._connection.close()


class Idle:
    """Idle connections by server, those used last first. ``keepalive_s`` is how long one is kept."""

    def __init__(self, keepalive_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._servers: dict[str, deque[Lent]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, server: str) -> Lent | None:
        """One that can still be spoken over."""
        idle = self._servers.get(server)
        while idle:
            lent = idle.pop()
            if lent.wire.is_connected() and time.monotonic() - lent.since <= self._keepalive_s:
                return lent
            lent.close()
        return None

    def put(self, lent: Lent) -> None:
        """Keep it for the next request."""
        lent.since = time.monotonic()
        idle = self._servers.get(lent.server)
        if idle is None:
            idle = self._servers[lent.server] = deque()
        idle.append(lent)
        if self._timer is None:
            self._timer = lent.wire.loop.call_later(self._keepalive_s, self._sweep, lent.wire.loop)

    def close(self) -> None:
        """Close all of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for idle in self._servers.values():
            for lent in idle:
                lent.close()
        self._servers.clear()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what was idle for too long; again as long as there is some."""
        latest = time.monotonic() - self._keepalive_s
        for server, idle in tuple(self._servers.items()):
            while idle and idle[0].since <= latest:
                idle.popleft().close()
            if not idle:
                del self._servers[server]
        self._timer = loop.call_later(self._keepalive_s, self._sweep, loop) if self._servers else None

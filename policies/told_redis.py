"""What was said already, so that it is said once: kept in Redis for all replicas, and in each process.

Nothing here is worth anything: if Redis forgets or is away, somebody is told something a second time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from redis.exceptions import RedisError

from policies.buckets_redis import Client

_PREFIX = "fb:told:"
_SIZE = 20_000
_PATIENCE_S = 0.3
# redis-py writes to a connection that another of its tasks has closed while it reads a Cluster's topology anew.
_AWAY = (RedisError, OSError, TimeoutError, AttributeError)


class ToldRedis:
    """One for each process; the client is somebody else's."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: OrderedDict[str, None] = OrderedDict()

    async def first(self, name: str, ttl_s: int) -> bool:
        """Whether this is the first time, for so many seconds, that anybody says this."""
        if name in self._known:
            return False
        self._remember(name)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return bool(await self._client.set(_PREFIX + name, 1, nx=True, ex=max(1, ttl_s)))
        except _AWAY:
            return True

    async def forget(self, name: str) -> None:
        """It may be said again. Costs nothing where this process has not said it."""
        if name not in self._known:
            return
        del self._known[name]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._client.delete(_PREFIX + name)
        except _AWAY:
            return

    def _remember(self, name: str) -> None:
        self._known[name] = None
        if len(self._known) > _SIZE:
            self._known.popitem(last=False)

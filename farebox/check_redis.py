"""The doctor's look at Redis: does it answer, does it keep what is counted, is it what the settings say it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from config.settings import Settings
from farebox.findings import Found, Verdict

_AREA = "redis"
_TIMEOUT_S = 5.0
_VERSION_LEAST = (7, 0)
_CLOCK_S = 5.0
_FULL = 0.9

Info = dict[str, Any]


async def look_at_redis(url: str, settings: Settings) -> list[Found]:
    """Everything that is to be said of the server behind this address (of a Cluster: of that node)."""
    # Asked as a single server, whatever the settings say it is: whether they are right is one of the questions.
    client = Redis.from_url(
        url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )
    try:
        info: Info = await client.info("all")
        apart = await _apart(client)
    except (RedisError, OSError, TimeoutError) as error:
        return [Found(_AREA, "reachable", "error", f"no: {error or type(error).__name__}")]
    finally:
        await client.aclose()
    verdict: Verdict = "warning" if apart > _CLOCK_S else "ok"
    clock = Found(_AREA, "clock", verdict, f"{apart:.1f} s from ours")
    return [*(found for look in _LOOKS for found in look(info, settings)), clock]


async def _apart(client: Redis) -> float:
    asked = time.time()
    seconds, micros = await client.time()
    answered = time.time()
    theirs = seconds + micros / 1e6
    return max(0.0, asked - theirs, theirs - answered)


def _version(info: Info, settings: Settings) -> Iterator[Found]:
    spoken = str(info.get("redis_version", "0"))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {spoken}"
    fit = tuple(int(part) for part in spoken.split(".")[:2] if part.isdigit()) >= _VERSION_LEAST
    yield Found(_AREA, "reachable", "ok" if fit else "error", name + ("" if fit else "; Farebox needs 7.0 or newer"))


def _role(info: Info, settings: Settings) -> Iterator[Found]:
    if info.get("role") != "master":
        yield Found(_AREA, "role", "error", "this is a replica, which cannot be written")


def _memory(info: Info, settings: Settings) -> Iterator[Found]:
    policy, most, used = info.get("maxmemory_policy"), int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if policy != "noeviction":
        said = f"{policy}: a counter that is evicted is a limit that is not kept; set noeviction"
        yield Found(_AREA, "maxmemory-policy", "error", said)
    else:
        yield Found(_AREA, "maxmemory-policy", "ok", policy)
    if most and used > _FULL * most:
        yield Found(_AREA, "memory", "warning", f"{used * 100 // most} % of maxmemory are in use")
    if evicted := int(info.get("evicted_keys", 0)):
        yield Found(_AREA, "evictions", "warning", f"{evicted} keys were evicted since it started")


def _persistence(info: Info, settings: Settings) -> Iterator[Found]:
    kept = "appends to disk" if info.get("aof_enabled") else "may write snapshots"
    if info.get("aof_enabled") or info.get("rdb_saves"):
        yield Found(_AREA, "persistence", "note", f"{kept}; nothing in it is worth money, so none is needed")
    else:
        yield Found(_AREA, "persistence", "ok", "none, and none is needed")


def _cluster(info: Info, settings: Settings) -> Iterator[Found]:
    is_cluster = bool(int(info.get("cluster_enabled", 0)))
    if is_cluster and not settings.redis.cluster:
        yield Found(_AREA, "cluster", "error", "it is a node of a Cluster: set FAREBOX_REDIS__CLUSTER=true")
    elif settings.redis.cluster and not is_cluster:
        yield Found(_AREA, "cluster", "error", "it is a single server: FAREBOX_REDIS__CLUSTER=true is wrong")
    else:
        yield Found(_AREA, "cluster", "ok", "a node of a Cluster" if is_cluster else "a single server, as set")


_LOOKS: tuple[Callable[[Info, Settings], Iterator[Found]], ...] = (_version, _role, _memory, _persistence, _cluster)

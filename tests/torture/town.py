"""Everything at once: replicas on one Postgres and one Redis behind wires that can fail, a backend, and people."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis
from redis.connection import parse_url
from sqlalchemy import make_url

from tests.house import Caller
from tests.process import Reach, command, reach
from tests.torture.backend import serving
from tests.torture.fault_proxy import Wire, wire
from tests.torture.replicas import Replica, close_all, replica, start_all
from tests.torture.swarm import Swarm

# The product's own beat and time to live, and calls short enough for a horizon one can wait for.
SETTINGS = {
    "BANK__BEAT_S": "2",
    "BANK__HOLD_TTL_S": "15",
    "TIMEOUTS__TOTAL_S": "30",
    "TIMEOUTS__IDLE_S": "10",
    "DRAIN_TIMEOUT_S": "30",
}
_OPEN = "SELECT count(*) AS open FROM holds WHERE state IN ('open', 'quarantine')"


@dataclass
class Town:
    """``bank_wire`` and ``redis_wire`` are between the replicas and their engines; ``within`` and ``redis`` are not."""

    folder: Path
    within: Reach
    redis: Redis
    replicas: list[Replica]
    bank_wire: Wire
    redis_wire: Wire
    record: Path
    swarm: Swarm
    settings: dict[str, str]
    redis_nodes: Sequence[Redis]
    people: list[Caller] = field(default_factory=list)
    dark: list[tuple[float, float]] = field(default_factory=list)
    """When the replicas could not reach the bank."""
    late_s: float = 0.0
    """The longest a running replica or the bank took for next to nothing: how busy this machine was."""

    @property
    def beat_s(self) -> float:
        return float(self.settings["BANK__BEAT_S"])

    @property
    def horizon_s(self) -> float:
        """The longest call and what a silent hold lives beyond it."""
        return float(self.settings["TIMEOUTS__TOTAL_S"]) + float(self.settings["BANK__HOLD_TTL_S"])

    @property
    def deaths(self) -> dict[int, float]:
        """When which process was killed."""
        return {pid: at for each in self.replicas for pid, at in each.deaths.items()}

    @property
    def frozen(self) -> set[int]:
        """Processes that stood still for a while."""
        return {pid for each in self.replicas for pid in each.frozen}

    async def settle_in(self, count: int, *, tier: str = "paid", usd: str = "100.00") -> list[Caller]:
        """People with a key and money."""
        come = [await self.within.caller(tier=tier, usd=usd, name=f"user{len(self.people) + n}") for n in range(count)]
        self.people += come
        return come

    @asynccontextmanager
    async def without_bank(self, *order: object) -> AsyncIterator[None]:
        """The bank's wire in another state for as long as the block lasts."""
        begun = time.monotonic()
        await self.bank_wire.order(*order)
        try:
            yield
        finally:
            await self.bank_wire.order("pass")
            self.dark.append((begun, time.monotonic()))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Find out how late things are while the block lasts."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.gather(self._took(self._bank_answers()), *(self._took(self._alive(n)) for n in self._running))
            await asyncio.sleep(0.2)

    @property
    def _running(self) -> list[int]:
        return [each.number for each in self.replicas if each.url]

    async def _took(self, question: Awaitable[object]) -> None:
        begun = time.monotonic()
        try:
            await question
        except aiohttp.ClientError:  # killed meanwhile
            return
        self.late_s = max(self.late_s, time.monotonic() - begun)

    async def _alive(self, number: int) -> None:
        async with self.within.http.get(f"{self.replicas[number].url}/healthz") as reply:
            await reply.read()

    async def _bank_answers(self) -> None:
        await self.within.rows("SELECT 1")

    async def verify(self) -> tuple[int, str]:
        """`farebox verify`, past the wires: exit code and what it said."""
        env = dict(self.replicas[0].env)
        env["FAREBOX_DATABASE_URL"] = self.within.run.urls.database
        code, said, error = await command(env, "verify")
        return code, said + error

    async def open_holds(self) -> int:
        """Holds that still lock money."""
        return int((await self.within.rows(_OPEN))[0]["open"])

    async def slots(self) -> int:
        """Slots taken in Redis, those not counted whose time is over."""
        now, taken = time.time() * 1000, 0
        for node in self.redis_nodes:
            async for key in node.scan_iter("fb:*:slots", count=1000):
                taken += await node.zcount(key, now, "+inf")
        return taken

    async def metrics(self, number: int) -> dict[str, float]:
        """The samples without labels of one replica."""
        text = (await self.within.http.get(f"{self.replicas[number].url}/metrics")).text
        return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", await text(), re.M)}

    def spooled(self) -> list[Path]:
        """Settlements that are on disk, whoever's, and those that nobody would take."""
        found = [path for each in self.replicas for path in Path(each.env["FAREBOX_DATA_DIR"]).glob("spool/*")]
        return [path for path in found if path.stat().st_size]

    def complaints(self) -> list[str]:
        """What the replicas logged as an error."""
        lines = [line for each in self.replicas for log in each.logs for line in log.read_text().splitlines()]
        return [line for line in lines if re.search(r'"level":\s*"(error|critical)"|Traceback', line)]


async def falls_to(figure: Callable[[], Any], most: int, within_s: float) -> float:
    """Seconds until a figure is not above ``most``. Raises TimeoutError."""
    begun = time.monotonic()
    async with asyncio.timeout(within_s):
        while await figure() > most:
            await asyncio.sleep(0.25)
    return time.monotonic() - begun


@asynccontextmanager
async def town(
    folder: Path,
    database_url: str,
    redis_url: str,
    *,
    replicas: int = 3,
    catalog: str = "",
    grain_s: float = 0.0,
    redis_nodes: Sequence[Redis] = (),
    preload: Mapping[str, str] | None = None,
    **settings: str,
) -> AsyncIterator[Town]:
    """A town that runs. ``settings`` are environment names without their prefix; ``redis_nodes`` are
    asked for slots where Redis is a cluster; ``preload`` goes into the replicas' environment as it is."""
    record = folder / "backend.record"
    async with AsyncExitStack() as stack:
        within = await stack.enter_async_context(reach(database_url))
        redis = await stack.enter_async_context(Redis.from_url(redis_url))
        bank_wire = await stack.enter_async_context(wire(_postgres(database_url)))
        redis_wire = await stack.enter_async_context(wire(_redis(redis_url)))
        backend = await stack.enter_async_context(serving(record, grain_s=grain_s))
        through = make_url(database_url).set(host="127.0.0.1", port=bank_wire.port, query={})
        given = {
            "database_url": through.render_as_string(hide_password=False),
            "redis_url": f"redis://127.0.0.1:{redis_wire.port}/0",
            "backend_url": backend,
            "catalog": catalog,
        }
        env = {**SETTINGS, **settings}
        houses = [replica(number, folder, within, settings=env, **given) for number in range(replicas)]
        for each in houses:
            each.env |= preload or {}
        swarm = Swarm(within.http, lambda: [each.url for each in houses])
        try:
            await _started(houses)
            yield Town(folder, within, redis, houses, bank_wire, redis_wire, record, swarm, env, redis_nodes or [redis])
        finally:
            await close_all(houses)


TownOpener = Callable[..., AbstractAsyncContextManager[Town]]
"""`town`, on a test's own database."""


async def _started(houses: Sequence[Replica]) -> None:
    """The first one brings the schema up."""
    await houses[0].start()
    await start_all(houses[1:])


def _postgres(url: str) -> str:
    parts = make_url(url)
    host = parts.query.get("host", parts.host)
    assert isinstance(host, str)
    port = parts.port or 5432
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else f"{host}:{port}"


def _redis(url: str) -> str:
    parts = parse_url(url)  # type: ignore[no-untyped-call]
    return str(parts["path"]) if "path" in parts else f"{parts['host']}:{parts['port']}"

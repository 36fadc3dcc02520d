"""Bank and Redis unwell in every way: calls get an answer, nothing hangs, and it ends without a hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import make_url, text

from tests import house
from tests.backend import Backend, Gate
from tests.backend import stream as script
from tests.house import Caller, Farebox, until
from tests.process import environment, reach, served
from tests.streams import DONE, delta, stream, usage
from tests.torture.fault_proxy import Wire, wire

_LIMITED = """
[[tiers]]
name = "three"
windows = [{ limit = 3, of = "requests", per = "hour" }]
"""
_QUICK = {"beat_s": 0.5, "hold_ttl_s": 3, "pool_size": 3, "statement_timeout_s": 0.5}


@pytest.fixture
async def bank_wire(database_url: str) -> AsyncIterator[tuple[Wire, str]]:
    """The wire to the database, and the database's address behind it."""
    url = make_url(database_url)
    folder = url.query.get("host")
    to = f"{folder}/.s.PGSQL.{url.port or 5432}" if isinstance(folder, str) else f"{url.host}:{url.port or 5432}"
    async with wire(to) as between:
        through = url.difference_update_query(["host"]).set(host="127.0.0.1", port=between.port)
        yield between, through.render_as_string(hide_password=False)


async def gauge(farebox: Farebox, name: str) -> float:
    lines = (await farebox.get("/metrics")).body.decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


async def ready(farebox: Farebox) -> bool:
    return (await farebox.get("/readyz")).status == 200


async def answered(farebox: Farebox, caller: Caller) -> bool:
    return (await farebox.chat(caller)).status == 200


async def test_a_slow_bank_makes_calls_slow_and_nothing_else(
    data_dir: Path, bank_wire: tuple[Wire, str], redis_url: str, backend: Backend
) -> None:
    between, through = bank_wire
    async with house.farebox(data_dir, through, redis_url, backend.url) as farebox:
        ada = await farebox.caller()
        await between.order("delay", 0.1)
        assert {(await farebox.chat(ada)).status for _ in range(3)} == {200}
        await until(lambda: ready(farebox))
        await between.order("pass")
        assert not await farebox.broken()


async def test_a_bank_that_does_not_answer_is_a_503_and_not_a_wait(
    data_dir: Path, bank_wire: tuple[Wire, str], redis_url: str, backend: Backend
) -> None:
    """All connections of the pool are stuck, and more calls come than it has."""
    between, through = bank_wire
    async with house.farebox(data_dir, through, redis_url, backend.url, bank=_QUICK) as farebox:
        ada = await farebox.caller()
        await until(lambda: answered(farebox, ada))
        await between.order("hole")
        async with asyncio.timeout(30):
            refused = await asyncio.gather(*(farebox.chat(ada) for _ in range(20)))
        assert {(answer.status, answer.error["code"]) for answer in refused} == {(503, "ledger_unavailable")}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert not await ready(farebox)
        await between.order("pass")
        await until(lambda: answered(farebox, ada))
        await until(lambda: ready(farebox))
        await farebox.settled()
        assert not await farebox.rows("SELECT 1 FROM holds WHERE state = 'open'")
        assert not await farebox.broken()


async def test_a_bank_that_takes_nothing_down_is_no_bank(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    """After a failover to a standby, or with a disk that is full: everything can be read and nothing written."""
    gate = asyncio.Event()
    backend.then(script([delta("one"), Gate(gate), delta(" two", "stop"), usage(8, 3), DONE]))
    async with house.farebox(data_dir, database_url, redis_url, backend.url) as farebox:
        ada = await farebox.caller()
        async with stream(farebox, ada) as running:
            await running.content.readany()
            await _read_only(farebox, database_url, "on")
            refused = await farebox.chat(ada)
            assert (refused.status, refused.error["code"]) == (503, "ledger_unavailable")
            assert not await ready(farebox)
            gate.set()
            assert (await running.read()).endswith(DONE)
        await _read_only(farebox, database_url, "off")
        await until(lambda: answered(farebox, ada))
        await until(lambda: ready(farebox))
        assert {charge["outcome"] for charge in await farebox.charges()} == {"completed"}
        assert not await farebox.broken()


async def _read_only(farebox: Farebox, database_url: str, state: str) -> None:
    """The database's word for everybody who connects from here on; and everybody has to."""
    name = make_url(database_url).database
    async with farebox.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        await connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = {state}"))
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
        )
        await connection.execute(text(others), {"name": name})
    await farebox.engine.dispose()


@asynccontextmanager
async def limited(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> AsyncIterator[tuple[Farebox, Caller, Redis]]:
    async with (
        house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_LIMITED) as farebox,
        Redis.from_url(redis_url) as redis,
    ):
        yield farebox, await farebox.caller(tier="three", usd="1.00"), redis


async def test_a_redis_that_is_full_is_as_good_as_away_until_it_has_room(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with limited(data_dir, database_url, redis_url, backend) as (farebox, ada, redis):
        assert await answered(farebox, ada)
        before = str((await redis.config_get("maxmemory"))["maxmemory"])
        await redis.config_set("maxmemory", 1)
        try:
            # Counted here now, by this process's share, which is all of it: it is the only replica.
            statuses = [(await farebox.chat(ada)).status for _ in range(5)]
            assert statuses == [200, 200, 200, 429, 429]
            assert await gauge(farebox, "farebox_limiter_degraded") == 1
        finally:
            await redis.config_set("maxmemory", before)
        await until(lambda: _well(farebox))
        # What was counted in Redis before is still there.
        assert [(await farebox.chat(ada)).status for _ in range(4)] == [200, 200, 429, 429]
        assert not await farebox.broken()


async def _well(farebox: Farebox) -> bool:
    return await gauge(farebox, "farebox_limiter_degraded") == 0


@pytest.mark.parametrize("forget", ["flushall", "script_flush"])
async def test_a_redis_that_forgets_in_the_middle_of_a_call_costs_nothing_but_limits(
    forget: str, data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    gate = asyncio.Event()
    backend.then(script([delta("one"), Gate(gate), delta(" two", "stop"), usage(8, 3), DONE]))
    async with limited(data_dir, database_url, redis_url, backend) as (farebox, ada, redis):
        async with stream(farebox, ada) as running:
            await running.content.readany()
            await getattr(redis, forget)()
            gate.set()
            assert (await running.read()).endswith(DONE)
        left = 3 if forget == "flushall" else 2
        assert [(await farebox.chat(ada)).status for _ in range(4)] == [200] * left + [429] * (4 - left)
        assert await gauge(farebox, "farebox_limiter_degraded") == 0
        assert not await redis.zcard(f"fb:{{{ada.user.wallet_id}}}:{ada.user.id}:slots")
        assert not await farebox.broken()


async def test_a_redis_that_evicts_is_told_at_the_start(
    data_dir: Path, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with Redis.from_url(redis_url) as redis:
        before = str((await redis.config_get("maxmemory-policy"))["maxmemory-policy"])
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            env = environment(data_dir, database_url, redis_url, backend.url)
            async with reach(database_url) as within, served(env, within):
                await until(lambda: _told(data_dir, "maxmemory-policy"))
        finally:
            await redis.config_set("maxmemory-policy", before)


async def _told(data_dir: Path, subject: str) -> bool:
    lines = [line for log in data_dir.parent.glob("log-*.err") for line in log.read_text().splitlines()]
    return any(json.loads(line).get("subject") == subject for line in lines if line.startswith("{"))

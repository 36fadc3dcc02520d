"""The databases behind what is measured: made, dropped, asked what they are, and kept off the gateway's core."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio
from sqlalchemy import make_url

from bench.machine import BenchError, Cores
from bench.processes import family, parent

DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
"""What Postgres must have on, or its answers would not be what they cost."""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of the driver alone. Raises BenchError when there is no way to the database."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        connection = await asyncpg.connect(plain)
    except (OSError, asyncpg.PostgresError) as error:
        raise BenchError(f"the database cannot be reached: {error}") from error
    try:
        yield connection
    finally:
        await connection.close()


async def make_database(server_url: str) -> str:
    """The URL of an empty database on the server of another."""
    name = f"farebox_bench_{secrets.token_hex(4)}"
    async with connected(server_url) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


async def drop_database(url: str, server_url: str) -> None:
    """Remove a database that was made here, and whoever is in it."""
    async with connected(server_url) as connection:
        await connection.execute(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")


async def facts(database_url: str, redis_url: str) -> dict[str, str]:
    """Which engines they are. Raises BenchError where Postgres may forget a commit."""
    async with aclosing(redis.asyncio.Redis.from_url(redis_url)) as client:
        info = await client.info("server")
    server = "valkey" if "valkey_version" in info else "redis"
    return {**await postgres_facts(database_url), server: str(info[f"{server}_version"])}


async def postgres_facts(database_url: str) -> dict[str, str]:
    """Its version and that it keeps what it was given. Raises BenchError where it may forget a commit."""
    async with connected(database_url) as connection:
        said = {name: await connection.fetchval(f"SHOW {name}") for name in ("server_version", *DURABLE)}
    forgets = [name for name in DURABLE if said[name] != "on"]
    if forgets:
        raise BenchError(f"Postgres runs with {', '.join(forgets)} off: what it answers would not be what it costs")
    return {"postgres": said.pop("server_version"), **said}


async def postmaster(database_url: str) -> int | None:
    """The server's first process; None where it is not on this machine."""
    async with connected(database_url) as connection:
        return _parent_of_postgres(await connection.fetchval("SELECT pg_backend_pid()"))


def _parent_of_postgres(backend: int) -> int | None:
    name = Path(f"/proc/{backend}/comm")
    return parent(backend) if name.exists() and name.read_text().startswith("postgres") else None


@contextmanager
def kept_on(pid: int, cores: Cores) -> Iterator[None]:
    """While the block lasts, this process and its children, also later ones, use these cores. Where that is not
    allowed, they stay where they are."""
    before = {each: _moved(each, cores) for each in family([pid])}
    try:
        yield
    finally:
        for each in family([pid]):
            _moved(each, before.get(each) or before[pid] or cores)


def _moved(pid: int, cores: Cores) -> Cores | None:
    with contextlib.suppress(OSError):
        before = frozenset(os.sched_getaffinity(pid))
        os.sched_setaffinity(pid, cores)
        return before
    return None

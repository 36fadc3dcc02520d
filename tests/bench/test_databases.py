"""Databases for measuring are made, dropped, known and kept off a core."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import make_url

from bench.databases import connected, drop_database, facts, kept_on, make_database, postgres_facts, postmaster
from bench.machine import BenchError


async def test_a_database_is_made_beside_another_and_dropped(server_url: str) -> None:
    url = await make_database(server_url)
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT current_database()") == make_url(url).database
    await drop_database(url, server_url)
    with pytest.raises(BenchError, match="cannot be reached"):
        async with connected(url):
            pass


async def test_a_server_that_may_forget_is_not_measured_on(server_url: str, redis_url: str) -> None:
    """The tests' own Postgres runs without fsync."""
    for asked in (postgres_facts(server_url), facts(server_url, redis_url)):
        with pytest.raises(BenchError, match="Postgres runs with fsync, full_page_writes, synchronous_commit off"):
            await asked


async def test_a_server_of_this_machine_can_be_kept_on_a_core(server_url: str) -> None:
    server = await postmaster(server_url)
    if server is None:
        pytest.skip("the server is elsewhere")
    before = os.sched_getaffinity(server)
    with kept_on(server, frozenset({min(before)})):
        assert os.sched_getaffinity(server) == {min(before)}
        async with connected(server_url) as connection:  # a child that came later sits there, too
            assert os.sched_getaffinity(await connection.fetchval("SELECT pg_backend_pid()")) == {min(before)}
    assert os.sched_getaffinity(server) == before

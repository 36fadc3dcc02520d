"""Three replicas on a Redis Cluster of three: as one; also while a slot moves, and when a node is gone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.house import Caller
from tests.torture.cluster import Cluster, cluster, until_answers
from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.judge import judged
from tests.torture.plan import Plan
from tests.torture.report import Report
from tests.torture.swarm import Order
from tests.torture.town import Town, town

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
LIMIT, BURST = 25, 60
_PROBED_S = 3.0
HABITS = Habits(length=(20, 60), rate=(10, 20), chunk=2, leaves=0.1, fails=0.03, keyed=0.2)
CATALOG = f"""
[[tiers]]
name = "limited"
windows = [{{ limit = {LIMIT}, of = "requests", per = "hour" }}]

[[tiers]]
name = "counted"
concurrency = 200
windows = [{{ limit = 100000, of = "requests", per = "hour" }}]
"""


@asynccontextmanager
async def clustered(folder: Path, database_url: str) -> AsyncIterator[tuple[Town, Cluster]]:
    async with cluster(folder) as nodes:
        clients = [node.client for node in nodes.nodes]
        given = {"catalog": CATALOG, "redis_nodes": clients, "REDIS_URL": nodes.url, "REDIS__CLUSTER": "true"}
        async with town(folder, database_url, nodes.url, **given) as place:  # type: ignore[arg-type]
            yield place, nodes


async def test_a_limit_is_one_limit_on_every_node_and_while_a_slot_moves(
    tmp_path: Path, database_url: str, seed: int
) -> None:
    async with clustered(tmp_path, database_url) as (town, nodes):
        report = Report("windows on a cluster of three, slots moving")
        people = await town.settle_in(9, tier="limited")
        assert len({(await nodes.owner(_key(ada))).port for ada in people}) > 1
        still, moving = people[:6], people[6:]
        for ada in still:
            told = await _burst(town, ada, f"{seed}{ada.user.id}a")
            report.bound("window", told[200] / LIMIT, 1, str(told))
            assert told == {200: LIMIT, 429: BURST - LIMIT}
        for ada in moving:
            burst = asyncio.create_task(_burst(town, ada, f"{seed}{ada.user.id}a"))
            owner = await nodes.owner(_key(ada))
            await nodes.move(_key(ada), next(node for node in nodes.nodes if node is not owner))
            # A slot under way may not be asked about some of its keys: then it counts as away.
            report.bound("window_dark", (await burst)[200] / LIMIT, 2)
        await asyncio.sleep(_PROBED_S)
        for ada in still:
            told = await _burst(town, ada, f"{seed}{ada.user.id}b")
            report.bound("window", (LIMIT + told[200]) / LIMIT, 1, f"what was counted is forgotten: {told}")
        assert (await judged(town, report)).good


async def _burst(town: Town, ada: Caller, name: str) -> Counter[int]:
    orders = [Order(ada, Plan(f"{name}n{n}", rate=50, length=3)) for n in range(BURST)]
    return Counter(heard.status for heard in await asyncio.gather(*map(town.swarm.call, orders)))


async def test_a_node_is_killed_and_comes_back_empty(tmp_path: Path, database_url: str, seed: int) -> None:
    async with clustered(tmp_path, database_url) as (town, nodes):
        end = time.monotonic() + 35
        crowd = Crowd(await town.settle_in(30, tier="counted"), HABITS, seed)
        calling = asyncio.create_task(keep(town.swarm, crowd, 50, lambda: time.monotonic() > end))
        await asyncio.sleep(5)
        nodes.nodes[1].kill()
        await asyncio.sleep(15)
        nodes.nodes[1].start()
        await until_answers(nodes.nodes[1])
        await calling
        report = Report("a node of the cluster killed, and back after 15 s")
        for heard in town.swarm.heard:
            if heard.status not in (0, 200, 502, 504):
                report.broke("status", f"call {heard.order.plan.nonce}: {heard.status} {heard.error} {heard.how}")
        assert (await judged(town, report, forgetful=True)).good


def _key(ada: Caller) -> str:
    return f"fb:{{{ada.user.wallet_id}}}:{ada.user.id}:slots"

"""A user's tier is changed and a key revoked in the middle of streams: they go on, and the next call is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.house import ADMIN_KEY, Admin, Caller
from tests.torture.judge import judged
from tests.torture.plan import Plan
from tests.torture.report import Report
from tests.torture.swarm import Heard, Order
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
BITES_S = 2.0


async def test_a_lower_tier_ends_no_answer_and_bites_the_next_on_every_replica(
    open_town: TownOpener, seed: int
) -> None:
    async with open_town() as town:
        report = Report("tier changed in the middle of streams")

        async def lowered(ada: Caller) -> None:
            path = f"/users/{ada.user.id}"
            read = await _admin(town).get(path)
            answer = await _admin(town).patch(path, {"tier": "free"}, match=read.headers.get("etag"))
            assert answer.status == 200, answer.body

        people = await town.settle_in(5, tier="paid")
        await asyncio.gather(*(_changed(town, ada, seed, "large", lowered, 403, report) for ada in people))
        assert (await judged(town, report)).good


async def test_a_revoked_key_ends_no_answer_and_bites_the_next_on_every_replica(
    open_town: TownOpener, seed: int
) -> None:
    async with open_town() as town:
        report = Report("key revoked in the middle of streams")

        async def revoked(ada: Caller) -> None:
            (key,) = (await _admin(town).read(f"/users/{ada.user.id}/keys"))["data"]
            assert (await _admin(town).delete(f"/keys/{key['id']}")).status == 204

        people = await town.settle_in(5)
        await asyncio.gather(*(_changed(town, ada, seed, "small", revoked, 401, report) for ada in people))
        assert (await judged(town, report)).good


async def _changed(
    town: Town,
    ada: Caller,
    seed: int,
    model: str,
    change: Callable[[Caller], Awaitable[None]],
    status: int,
    report: Report,
) -> None:
    """Two streams of five seconds at each replica, the change in their middle."""
    orders = [Order(ada, Plan(f"{seed}{ada.user.id}n{n}", rate=20, length=100, chunk=2), model=model) for n in range(6)]
    running = asyncio.gather(*(town.swarm.call(order, n % 3) for n, order in enumerate(orders)))
    await asyncio.sleep(1.5)
    await change(ada)
    await _bites(town, ada, model, status, report)
    for each in await running:
        report.bound("lost_streams", int(each.tokens != each.order.plan.length or not each.done), 0, each.error)


def _admin(town: Town) -> Admin:
    return Admin(town.within.http, f"{town.replicas[0].url}/admin/api", ADMIN_KEY)


async def _bites(town: Town, ada: Caller, model: str, status: int, report: Report) -> None:
    """How long it takes until every replica refuses the next call, asked all the time."""
    begun = time.monotonic()

    async def at(number: int) -> None:
        tried = 0
        while (await _next(tried, number)).status != status:
            assert time.monotonic() < begun + 10 * BITES_S
            tried += 1
            await asyncio.sleep(0.03)

    async def _next(tried: int, number: int) -> Heard:
        plan = Plan(f"{ada.user.id}r{number}t{tried}", rate=100, length=1)
        return await town.swarm.call(Order(ada, plan, model=model), number)

    await asyncio.gather(*(at(number) for number in range(len(town.replicas))))
    report.bound("bites_s", time.monotonic() - begun, BITES_S, f"{model} for {ada.user.id}")

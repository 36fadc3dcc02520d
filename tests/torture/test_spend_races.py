"""People with hardly any money call all the time, while admins give, take, correct, refund, and give what ends soon."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.house import ADMIN_KEY, Admin, Answer, Caller
from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.judge import judged
from tests.torture.report import Report
from tests.torture.town import Town, TownOpener

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
SECONDS, POOR, CLERKS = 40.0, 12, 6
HABITS = Habits(length=(20, 120), rate=(20, 60), chunk=4, leaves=0.1, fails=0.05, stalls=False, keyed=0.1)


async def test_nobody_spends_more_than_was_given_whatever_admins_do_meanwhile(open_town: TownOpener, seed: int) -> None:
    async with open_town() as town:
        people = await town.settle_in(POOR, usd="0.0002")
        until = time.monotonic() + SECONDS
        report = Report("spending against top-ups, deductions, refunds and expiry")
        crowd = Crowd(people, HABITS, seed)
        clerks = [_Clerk(town, people, random.Random(f"{seed} clerk {n}"), report) for n in range(CLERKS)]
        await asyncio.gather(
            keep(town.swarm, crowd, 40, lambda: time.monotonic() > until), *(each.work(until) for each in clerks)
        )
        assert (await judged(town, report)).good
    for kind in ("grant 201", "deduct 201", "refund 201", "refund of a charge 201", "status 402"):
        assert report.counts[kind], f"{kind} never happened"


class _Clerk:
    """An admin who orders one thing after another, at any replica."""

    def __init__(self, town: Town, people: list[Caller], chance: random.Random, report: Report) -> None:
        self._town = town
        self._people = people
        self._chance = chance
        self._report = report

    async def work(self, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.uniform(0.05, 0.4))
            await (self._refund() if self._chance.random() < 0.3 else self._credit())

    @property
    def _admin(self) -> Admin:
        url = self._chance.choice(self._town.replicas).url
        return Admin(self._town.within.http, f"{url}/admin/api", ADMIN_KEY)

    async def _credit(self) -> None:
        kind = self._chance.choice(("payment", "grant", "grant", "grant", "adjustment", "refund", "deduct"))
        amount = f"{self._chance.randint(1, 90) / 10**6:.6f}"
        body: dict[str, Any] = {"kind": kind, "amount": amount, "reason": "torture"}
        if kind == "adjustment" and self._chance.random() < 0.5:
            body["amount"] = f"-{amount}"
        elif kind == "grant" and self._chance.random() < 0.8:
            soon = datetime.now(UTC) + timedelta(seconds=self._chance.uniform(0.5, 4))
            body["expires_at"] = soon.isoformat()
        path = f"/users/{self._chance.choice(self._people).user.id}/credits"
        self._note(kind, await self._twice(path, body))

    async def _refund(self) -> None:
        rows = await self._town.within.rows("SELECT request_id FROM charges ORDER BY request_id DESC LIMIT 40")
        if rows:
            body = {"reason": "torture"}
            if self._chance.random() < 0.5:
                body["amount"] = f"{self._chance.randint(1, 20) / 10**6:.6f}"
            path = f"/charges/{self._chance.choice(rows)['request_id']}/refund"
            self._note("refund of a charge", await self._twice(path, body))

    async def _twice(self, path: str, body: dict[str, Any]) -> Answer:
        """Now and then the same order is sent twice at once, under one key: it is done once."""
        key = f"order-{self._chance.random()}"
        if self._chance.random() < 0.7:
            return await self._admin.post(path, body, key=key)
        first, _ = await asyncio.gather(*(self._admin.post(path, body, key=key) for _ in range(2)))
        return first

    def _note(self, what: str, answer: Answer) -> None:
        self._report.counted(f"{what} {answer.status}")
        if answer.status not in (201, 404, 409, 422):
            self._report.broke("status", f"{what}: {answer.status} {answer.body[:300]!r}")

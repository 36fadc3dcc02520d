"""Streams over a month's border, by the wall clock of the replicas and of their Postgres."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.torture.clock import Clock
from tests.torture.crowd import Crowd, Habits, keep
from tests.torture.engines import Postgres
from tests.torture.judge import judged
from tests.torture.plan import Plan
from tests.torture.report import Report
from tests.torture.swarm import Order
from tests.torture.town import Town, town

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
BEFORE_S, PEOPLE = 12, 10
ALLOWANCE = 300_000  # nano-USD: 500 tokens of output
HABITS = Habits(length=(40, 100), rate=(6, 10), chunk=2, leaves=0.1)
CATALOG = """
[[tiers]]
name = "monthly"
allowance = { usd = "0.0003", every = "month", zone = "UTC" }
"""
_PLACES = "SELECT tableoid::regclass::text AS place, count(*) AS n FROM {table} GROUP BY 1"
# What the calls whose holds were opened before (or since) the border drew on the grants of each period. Not by their
# ids: on a busy machine one may come before the border and be admitted behind it.
_DRAWN = """
SELECT c.wallet_id, g.starts_at, h.opened_at < :border AS before, sum(p.amount) AS nano
FROM charges c JOIN holds h ON h.id = c.request_id
JOIN postings p ON p.entry_id = c.entry_id JOIN grants g ON g.id = p.grant_id GROUP BY 1, 2, 3
"""


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def month_url(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Postgres with that clock."""
    clock.of_postgres(monkeypatch)
    with Postgres.running(tmp_path / "engine") as server:
        yield server.url


async def test_a_call_is_of_the_month_in_which_it_was_admitted(
    tmp_path: Path, month_url: str, redis_url: str, clock: Clock, seed: int
) -> None:
    async with town(tmp_path, month_url, redis_url, catalog=CATALOG, preload=clock.env) as place:
        people = await place.settle_in(PEOPLE, tier="monthly", usd="0")
        report, border = Report("streams over a month's border"), _next_month(clock.now())
        clock.set_ahead(int((border - clock.now()).total_seconds()) - BEFORE_S)
        end = time.monotonic() + 2 * BEFORE_S
        await keep(place.swarm, Crowd(people, HABITS, seed), 40, lambda: time.monotonic() > end)
        over = [each for each in place.swarm.heard if each.begun < end - BEFORE_S < each.ended and each.status == 200]
        report.counted("streams over the border", len(over))
        report.counted("refused: this month's allowance is used up", _refused(place, end))
        for ada in people:
            fresh = await place.swarm.call(Order(ada, Plan(f"{seed}{ada.user.id}", rate=100, length=2)))
            report.counted(f"after the border: {fresh.status}")
        await _months(place, border, report)
        assert (await judged(place, report)).good and over


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _refused(place: Town, end: float) -> int:
    early = [each for each in place.swarm.heard if each.begun < end - BEFORE_S]
    return sum(1 for each in early if each.error == "allowance_exhausted")


async def _months(place: Town, border: datetime, report: Report) -> None:
    """Both months have rows, the default partitions none; each month's calls drew on that month's allowance alone."""
    async with asyncio.timeout(30):
        while await place.open_holds():
            await asyncio.sleep(0.2)
    for table in ("charges", "holds", "journal_entries", "postings"):
        places = {row["place"]: row["n"] for row in await place.within.rows(_PLACES.format(table=table))}
        report.counted(f"months of {table}", len(places))
        report.bound("unplaced", places.get(f"{table}_default", 0), 0, table)
        assert len(places) == 2, places
    drawn: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
    for row in await place.within.rows(_DRAWN, border=border):
        call, money = ("old" if each else "next" for each in (row["before"], row["starts_at"] < border))
        drawn[row["wallet_id"]][f"{call} calls on {money} money"] += int(row["nano"])
    for wallet_id, sums in drawn.items():
        _exchanged(str(wallet_id), sums, report)


def _exchanged(wallet: str, sums: Counter[str], report: Report) -> None:
    """What of the old month backs calls under way is kept for them. Money has no name within a wallet: where the next
    month's calls were charged first, they drew on it, and the old month's calls on as much of the next one's."""
    for money in ("old", "next"):
        drawn = sums[f"old calls on {money} money"] + sums[f"next calls on {money} money"]
        report.bound("allowance", drawn / ALLOWANCE, 1, wallet)
    for what, nano in sums.items():
        report.counted(f"nano-USD, {what}", nano)
    report.bound("month", sums["old calls on next money"] - sums["next calls on old money"], 0, f"{wallet}: {sums}")

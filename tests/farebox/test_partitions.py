"""Months as an operator deals with them: sentences that say what was done, or why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from config.settings import Settings
from farebox import partitions
from farebox.desk import DeskError
from ledger import months
from ledger.engine import make_engine
from ledger.seal import session
from tests import house
from tests.ledger.old_months import Old, ago, business_in, clock_in
from tests.ledger.till import Till


@pytest.fixture
def settings(data_dir: Any, database_url: str, redis_url: str) -> Settings:
    return house.settings(data_dir, database_url, redis_url)


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    engine = make_engine(database_url)
    yield await Till.open(engine)
    await engine.dispose()


@pytest.fixture
async def old(till: Till) -> Old:
    return await business_in(till, ago(9))


async def test_a_month_is_sealed_detached_listed_and_attached(settings: Settings, till: Till, old: Old) -> None:
    month = months.name(old.month)
    charges = await till.value("SELECT count(*) FROM charges")
    sealed = await partitions.seal(settings, month)
    assert sealed.startswith(f"{month} is sealed: ") and f"{charges} rows of charges" in sealed
    assert await _state(settings, month) == "sealed"
    detached = await partitions.detach(settings, month, 90)
    assert f"`pg_dump -Fc -t holds_{old.month:%Y%m} -t charges_" in detached
    assert await _state(settings, month) == "detached"
    assert f"{charges} rows of charges" in await partitions.attach(settings, month)
    assert await _state(settings, month) == "sealed"
    assert await partitions.unseal(settings, month) == f"{month} is not sealed any more."
    assert await _state(settings, month) == "open"


async def test_a_month_whose_tables_were_dropped_is_listed_as_such(settings: Settings, till: Till, old: Old) -> None:
    month = months.name(old.month)
    await partitions.seal(settings, month)
    await partitions.detach(settings, month, 90)
    for table in months.tables(old.month):
        await till.sql(f"DROP TABLE {table}")
    assert await _state(settings, month) == "dropped"
    with pytest.raises(DeskError, match="restore it from its dump"):
        await partitions.attach(settings, month)


async def _state(settings: Settings, month: str) -> str:
    [line] = [line for line in await partitions.list_months(settings) if line.startswith(month)]
    return line.split()[1]


@pytest.mark.parametrize(
    ("month", "said"),
    [("soon", "soon is not a month"), (months.name(ago(0)), "too young"), ("2019-01", "has no tables here")],
)
async def test_what_cannot_be_done_is_a_sentence(settings: Settings, month: str, said: str) -> None:
    with pytest.raises(DeskError, match=said):
        await partitions.seal(settings, month)


async def test_strays_are_listed_and_brought_home(settings: Settings, till: Till) -> None:
    assert await partitions.home(settings, everything=False) == "No row stands outside its month."
    with clock_in(ago(4)):
        await till.charge(await till.wallet(100), 30)
    assert (await partitions.list_months(settings))[-1] == "4 rows of postings in the default partition"
    moved = await partitions.home(settings, everything=False)
    assert moved == f"Rows were moved into {months.name(ago(4))}."
    await till.sql("INSERT INTO journal_entries VALUES (gen_random_uuid(), 'x', 'x', now())")
    left = await partitions.home(settings, everything=False)
    assert left.startswith("No row could be moved: 1 of journal_entries stay")


async def test_many_strays_are_moved_only_by_who_says_so(
    settings: Settings, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "AT_ONCE", 3)
    with clock_in(ago(4)):
        await till.charge(await till.wallet(100), 30)
    with pytest.raises(DeskError, match=r"more than 3 rows.*--all"):
        await partitions.home(settings, everything=False)
    assert "were moved" in await partitions.home(settings, everything=True)


async def test_a_reader_is_waited_for_by_trying_again(
    settings: Settings, till: Till, old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_LOCK_PAUSE_S", 0.05)
    month = months.name(old.month)
    await partitions.seal(settings, month)
    async with session(till.engine) as reader:
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM charges")
            detaching = asyncio.create_task(partitions.detach(settings, month, 90))
            await asyncio.sleep(1)
            assert not detaching.done()
        assert "is detached" in await detaching
        monkeypatch.setattr(partitions, "_LOCK_TRIES", 1)
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM charges")
            with pytest.raises(DeskError, match="tables are in use"):
                await partitions.attach(settings, month)

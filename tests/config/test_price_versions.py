"""A model's prices over time: which was, which is, which will be, and which was taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from config.catalog import Rates
from config.price_versions import PriceVersion, enter_price, find_price_version, price_at, price_versions

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


async def enter(engine: AsyncEngine, pico: int, at: datetime | None = None, model: str = "m") -> PriceVersion:
    async with engine.begin() as connection:
        return await enter_price(connection, model, Rates({"input": pico}), at)


async def states(engine: AsyncEngine) -> list[tuple[int, str]]:
    return [(each.rates.pico["input"], each.state) for each in await price_versions(engine, "m", limit=99)]


async def test_a_price_holds_until_the_next_one(engine: AsyncEngine) -> None:
    first = await enter(engine, 1)
    assert (first.state, first.until, first.model) == ("in_force", None, "m")
    second = await enter(engine, 2)
    planned = await enter(engine, 3, SOON)
    assert await states(engine) == [(3, "planned"), (2, "in_force"), (1, "past")]
    listed = await price_versions(engine, "m", limit=9)
    assert [each.until for each in listed] == [None, SOON, second.effective_at]
    assert [each.version for each in listed] == [planned.version, second.version, first.version]


async def test_a_planned_price_is_taken_back_by_another_for_the_same_instant(engine: AsyncEngine) -> None:
    await enter(engine, 1)
    await enter(engine, 2, SOON)
    await enter(engine, 1, SOON)
    assert await states(engine) == [(1, "planned"), (2, "superseded"), (1, "in_force")]


async def test_a_price_entered_later_for_an_earlier_instant_ends_when_the_other_begins(engine: AsyncEngine) -> None:
    await enter(engine, 1, SOON + timedelta(hours=1))
    await enter(engine, 2, SOON)
    listed = await price_versions(engine, "m", limit=9)
    assert [(each.rates.pico["input"], each.until) for each in listed] == [(1, None), (2, SOON + timedelta(hours=1))]


async def test_versions_come_a_page_at_a_time(engine: AsyncEngine) -> None:
    for pico in range(5):
        await enter(engine, pico, SOON)
    await enter(engine, 9, model="other")
    seen: list[int] = []
    page = await price_versions(engine, "m", limit=2)
    while page:
        seen += [each.rates.pico["input"] for each in page]
        page = await price_versions(engine, "m", before=(page[-1].effective_at, page[-1].version), limit=2)
    assert seen == [4, 3, 2, 1, 0]


async def test_a_version_is_found_at_its_own_model_alone(engine: AsyncEngine) -> None:
    entered = await enter(engine, 1)
    assert await find_price_version(engine, "m", entered.version) == entered
    assert await find_price_version(engine, "other", entered.version) is None
    assert await find_price_version(engine, "m", entered.version + 1) is None


async def test_a_model_without_prices_has_none(engine: AsyncEngine) -> None:
    assert await price_versions(engine, "m", limit=9) == []


@pytest.mark.parametrize("version", [0, 2**62])
async def test_any_number_may_be_asked_for(engine: AsyncEngine, version: int) -> None:
    assert await find_price_version(engine, "m", version) is None


async def test_the_price_of_an_instant_is_the_one_in_force_then(engine: AsyncEngine) -> None:
    first = await enter(engine, 1, SOON)
    second = await enter(engine, 2, SOON + timedelta(hours=1))
    instead = await enter(engine, 3, SOON + timedelta(hours=1))
    assert await price_at(engine, "m", SOON - timedelta(seconds=1)) is None
    assert await price_at(engine, "other", SOON) is None
    found = [await price_at(engine, "m", SOON + timedelta(minutes=minutes)) for minutes in (0, 59, 60)]
    assert [each and (each.version, each.pico["input"]) for each in found] == [
        (first.version, 1),
        (first.version, 1),
        (instead.version, 3),
    ]
    assert second.version != instead.version

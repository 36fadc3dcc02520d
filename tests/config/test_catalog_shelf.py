"""Entries as an admin sees them: found, listed, searched, with the retired ones on request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from config.catalog import Declared, Model, Rates, Upstream
from config.catalog_shelf import MODELS, TIERS, UPSTREAMS, find_entry, list_entries, whole_catalog
from config.catalog_sql import seed
from policies.tier import Tier

DECLARED = Declared(
    upstreams=(Upstream("u", "http://backend.example/v1"),),
    models=(Model("m", "u", "m", title="Mini"), Model("n/2", "u", "n")),
    tiers=tuple(Tier(name, title=title) for name, title in (("a", "100% Pure"), ("b", "Basic_"), ("c", ""))),
    rates={"m": Rates({"input": 7})},
)


@pytest.fixture
async def seeded(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    await seed(engine, DECLARED)
    yield engine


async def names(engine: AsyncEngine, search: str = "", *, retired: bool = False) -> list[str]:
    return [entry.value.name for entry in await list_entries(engine, TIERS, search=search, retired=retired, limit=9)]


async def test_an_entry_is_found_with_its_version_and_its_price(seeded: AsyncEngine) -> None:
    entry = await find_entry(seeded, MODELS, "m")
    assert entry is not None
    assert (entry.value, entry.version, entry.rates) == (DECLARED.models[0], 1, Rates({"input": 7}))
    assert entry.created_at == entry.updated_at and entry.retired_at is None
    assert MODELS.document(entry)["prices"] == {"input": "0.000007"}
    other = await find_entry(seeded, MODELS, "n/2")
    assert other is not None and other.rates is None
    assert await find_entry(seeded, UPSTREAMS, "m") is None


async def test_entries_come_by_name_a_page_at_a_time(seeded: AsyncEngine) -> None:
    first = await list_entries(seeded, TIERS, limit=2)
    assert [entry.value.name for entry in first] == ["a", "b"]
    rest = await list_entries(seeded, TIERS, after="b", limit=2)
    assert [entry.value.name for entry in rest] == ["c"]


async def test_a_search_finds_a_part_of_name_or_title_and_knows_no_wildcard(seeded: AsyncEngine) -> None:
    assert await names(seeded, "PURE") == ["a"]
    assert await names(seeded, "B") == ["b"]
    assert await names(seeded, "%") == ["a"]
    assert await names(seeded, "_") == ["b"]
    assert await names(seeded, "x") == []


async def test_the_retired_come_only_on_request(seeded: AsyncEngine) -> None:
    async with seeded.begin() as connection:
        await connection.execute(text("UPDATE tiers SET retired_at = now() WHERE name = 'b'"))
    assert await names(seeded) == ["a", "c"]
    assert await names(seeded, retired=True) == ["a", "b", "c"]
    entry = await find_entry(seeded, TIERS, "b")
    assert entry is not None and entry.retired_at is not None
    assert [tier.name for tier in (await whole_catalog(seeded)).tiers] == ["a", "c"]


async def test_the_whole_is_as_a_file_would_declare_it(seeded: AsyncEngine) -> None:
    assert await whole_catalog(seeded) == DECLARED

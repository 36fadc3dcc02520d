"""The running catalogue follows the database, and stays as it was where the database cannot be understood."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from config.catalog_sql import CatalogError
from config.keeper import CatalogKeeper
from config.watch import Watcher

Until = Callable[[Callable[[], bool]], Awaitable[None]]
TIER = """INSERT INTO tiers (name, doc) VALUES ('t', '{"name": "t"}')"""


@pytest.fixture
async def keeper(engine: AsyncEngine, database_url: str) -> AsyncIterator[CatalogKeeper]:
    keeper = CatalogKeeper(engine)
    await keeper.start()
    watcher = Watcher(database_url, [keeper])
    await watcher.start()
    yield keeper
    await watcher.aclose()
    await keeper.aclose()


async def run(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement))


async def test_a_change_made_elsewhere_is_in_force_soon(
    engine: AsyncEngine, keeper: CatalogKeeper, until: Until
) -> None:
    assert keeper.current.tier("t") is None
    await run(engine, TIER)
    await until(lambda: keeper.current.tier("t") is not None)


async def test_a_group_made_elsewhere_is_in_force_soon(
    engine: AsyncEngine, keeper: CatalogKeeper, until: Until
) -> None:
    await run(engine, "INSERT INTO wallets (id, due_at) VALUES (gen_random_uuid(), now())")
    made = "INSERT INTO groups (id, name, doc, wallet_id) SELECT gen_random_uuid(), 'g', '{}', id FROM wallets"
    await run(engine, made)
    await until(lambda: bool(keeper.current.groups))
    await run(engine, "UPDATE groups SET retired_at = now()")
    await until(lambda: not keeper.current.groups)


async def test_a_snapshot_in_hand_does_not_change(engine: AsyncEngine, keeper: CatalogKeeper, until: Until) -> None:
    held = keeper.current
    await run(engine, TIER)
    await until(lambda: keeper.current is not held and keeper.current.tier("t") is not None)
    assert held.tier("t") is None


async def test_a_price_comes_into_force_at_its_time_without_a_notice(
    engine: AsyncEngine, keeper: CatalogKeeper, until: Until
) -> None:
    later = "INSERT INTO prices (model_id, doc, effective_at) VALUES ('m', '{}', now() + interval '0.5 s')"
    await run(engine, later)
    await until(lambda: keeper.current.price("m") is not None)


async def test_a_document_nobody_understands_leaves_the_last_catalogue_in_force(
    engine: AsyncEngine, keeper: CatalogKeeper, until: Until
) -> None:
    await run(engine, TIER)
    await until(lambda: keeper.current.tier("t") is not None)
    await run(engine, "INSERT INTO tiers (name, doc) VALUES ('bad', '{}')")
    await run(engine, 'UPDATE tiers SET doc = \'{"name": "t", "title": "new"}\' WHERE name = \'t\'')
    assert keeper.current.tiers["t"].title == ""
    await run(engine, "DELETE FROM tiers WHERE name = 'bad'")
    await until(lambda: keeper.current.tiers["t"].title == "new")


async def test_the_first_load_must_succeed() -> None:
    engine = create_async_engine("postgresql+asyncpg://u@127.0.0.1:1/d")
    with pytest.raises(CatalogError):
        await CatalogKeeper(engine).start()
    await engine.dispose()

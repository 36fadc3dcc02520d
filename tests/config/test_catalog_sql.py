"""The catalogue in the database: file and API do not undo each other, and a price is never edited."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from config.catalog import Declared, Model, Rates, Upstream
from config.catalog_document import tier_document
from config.catalog_sql import CatalogError, add_prices, digest_of, load, read, seed
from config.shipped import shipped_tiers
from ledger.price import Step
from policies.group import Group
from policies.tier import Tier, Window

MODEL = Model(id="m", upstream="u", upstream_model="m")
DECLARED = Declared(
    upstreams=(Upstream("u", "http://u"),),
    models=(MODEL,),
    tiers=(Tier(name="free", windows=(Window(5, "requests", 60),)),),
    rates={"m": Rates({"input": 7}, 3)},
)


async def run(engine: AsyncEngine, statement: str, **values: Any) -> list[Any]:
    async with engine.begin() as connection:
        result = await connection.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []


async def test_what_is_seeded_is_loaded_again(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    catalog = await load(engine)
    assert catalog.tier("free") == DECLARED.tiers[0]
    assert catalog.model("m") == MODEL
    assert catalog.upstream("u") == DECLARED.upstreams[0]
    price = catalog.price("m")
    assert price is not None and (price.pico, price.per_request, price.model) == ({"input": 7}, 3, "m")


async def test_seeding_again_changes_nothing(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    before = await load(engine)
    await seed(engine, DECLARED)
    assert await load(engine) == before


async def test_replicas_that_seed_together_make_one_price(engine: AsyncEngine) -> None:
    await asyncio.gather(*(seed(engine, DECLARED) for _ in range(4)))
    assert await run(engine, "SELECT count(*) FROM prices") == [(1,)]


async def test_a_change_through_the_api_outlives_a_restart_with_the_same_file(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await run(engine, """UPDATE tiers SET doc = doc || '{"title": "by hand"}'""")
    await seed(engine, DECLARED)
    tier = (await load(engine)).tier("free")
    assert tier is not None and tier.title == "by hand"


async def test_a_change_in_the_file_is_applied_to_that_entry_alone(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await run(engine, """UPDATE upstreams SET doc = doc || '{"base_url": "http://by-hand"}'""")
    await seed(engine, msgspec.structs.replace(DECLARED, tiers=(Tier(name="free", title="by file"),)))
    catalog = await load(engine)
    assert catalog.tiers["free"].title == "by file"
    assert catalog.upstreams["u"].base_url == "http://by-hand"


async def test_a_new_title_in_the_file_does_not_bring_an_old_price_back(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await run(engine, """INSERT INTO prices (model_id, doc) VALUES ('m', '{"pico": {"input": 99}}')""")
    await seed(engine, msgspec.structs.replace(DECLARED, models=(msgspec.structs.replace(MODEL, title="M"),)))
    catalog = await load(engine)
    assert catalog.models["m"].title == "M"
    assert catalog.prices["m"].pico == {"input": 99}


async def test_a_changed_price_is_a_new_version_and_the_old_one_stays(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    first = (await load(engine)).prices["m"]
    await seed(engine, msgspec.structs.replace(DECLARED, rates={"m": Rates({"input": 8})}))
    second = (await load(engine)).prices["m"]
    assert second.version > first.version and second.pico == {"input": 8}
    assert await run(engine, "SELECT version FROM prices ORDER BY 1") == [(first.version,), (second.version,)]


@pytest.mark.parametrize("statement", ["UPDATE prices SET doc = '{}'", "DELETE FROM prices", "TRUNCATE prices"])
async def test_the_database_refuses_to_change_a_price(engine: AsyncEngine, statement: str) -> None:
    await seed(engine, DECLARED)
    with pytest.raises(DBAPIError, match="append-only"):
        await run(engine, statement)


async def test_a_price_below_zero_is_refused_by_the_database(engine: AsyncEngine) -> None:
    with pytest.raises(CatalogError):
        await add_prices(engine, {"m": Rates({"input": 1}, variants={"flex": {"input": -1}})})
    assert await run(engine, "SELECT count(*) FROM prices") == [(0,)]


async def test_a_price_in_full_is_seeded_once_and_loaded_again(engine: AsyncEngine) -> None:
    full = Rates({"input": 7}, 3, Step(100, {"input": 9}), {"flex": {"input": 4}})
    await seed(engine, msgspec.structs.replace(DECLARED, rates={"m": full}))
    await seed(engine, msgspec.structs.replace(DECLARED, rates={"m": full}))
    assert (await load(engine)).prices["m"].rates == full
    assert await run(engine, "SELECT count(*) FROM prices") == [(1,)]


async def test_prices_are_added_together_now_or_from_an_instant_on(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await add_prices(engine, {"m": Rates({"input": 8}), "n": Rates({"input": 9})})
    await add_prices(engine, {"m": Rates({"input": 10})}, datetime.now(UTC) + timedelta(hours=1))
    await add_prices(engine, {})
    catalog, wait = await read(engine)
    assert [catalog.prices[name].pico for name in ("m", "n")] == [{"input": 8}, {"input": 9}]
    assert wait is not None and wait > 3500


async def test_a_price_entered_for_later_is_not_in_force_before(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    later = "INSERT INTO prices (model_id, doc, effective_at) VALUES ('m', '{}', now() + interval '1 hour')"
    await run(engine, later)
    catalog, wait = await read(engine)
    assert catalog.prices["m"].pico == {"input": 7}
    assert wait is not None and 3500 < wait <= 3600


async def test_nothing_waits_where_no_price_is_entered_for_later(engine: AsyncEngine) -> None:
    assert (await read(engine)).next_price_in_s is None


async def test_a_retired_model_is_gone_and_a_retired_tier_still_counts_for_its_members(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await run(engine, "UPDATE models SET retired_at = now()")
    await run(engine, "UPDATE tiers SET retired_at = now()")
    catalog = await load(engine)
    assert catalog.model("m") is None and catalog.tier("free") is not None


async def test_a_model_without_its_upstream_is_not_offered(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await run(engine, "UPDATE upstreams SET retired_at = now()")
    assert (await load(engine)).models == {}


async def test_the_revision_tells_two_catalogues_apart(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    before = (await load(engine)).revision
    await run(engine, """UPDATE tiers SET doc = doc || '{"title": "x"}'""")
    assert (await load(engine)).revision != before


GROUP = """
    WITH wallet AS (INSERT INTO wallets (id, due_at) VALUES (gen_random_uuid(), now()) RETURNING id)
    INSERT INTO groups (id, name, doc, wallet_id)
    SELECT gen_random_uuid(), :name, CAST(:doc AS jsonb), id FROM wallet RETURNING id, wallet_id
"""


async def test_the_groups_in_force_are_read_with_the_catalogue(engine: AsyncEngine) -> None:
    before = (await load(engine)).revision
    ((group_id, wallet_id),) = await run(engine, GROUP, name="team", doc='{"tier": "pro", "shared": true}')
    catalog = await load(engine)
    assert catalog.groups == {group_id: Group(group_id, "team", wallet_id, tier="pro", shared=True)}
    assert catalog.revision != before
    await run(engine, "UPDATE groups SET retired_at = now()")
    assert (await load(engine)).groups == {}


async def test_a_group_that_is_not_understood_is_named(engine: AsyncEngine) -> None:
    await run(engine, GROUP, name="team", doc='{"allowance": {"amount": 1, "unit": "tokens"}}')
    with pytest.raises(CatalogError, match="group team"):
        await load(engine)


async def test_a_document_that_is_not_understood_is_named(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await run(engine, """UPDATE tiers SET doc = doc || '{"concurrency": "many"}'""")
    with pytest.raises(CatalogError, match="tiers free"):
        await load(engine)


async def test_a_database_that_is_away_is_a_catalogue_error() -> None:
    engine = create_async_engine("postgresql+asyncpg://u@127.0.0.1:1/d")
    with pytest.raises(CatalogError, match="did not answer"):
        await load(engine)
    await engine.dispose()


async def test_the_shipped_tiers_are_there_where_nobody_declared_any(engine: AsyncEngine) -> None:
    await seed(engine, Declared())
    assert (await load(engine)).tiers == {tier.name: tier for tier in shipped_tiers()}


async def test_the_shipped_tiers_stay_away_where_anybody_declared_one(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    assert set((await load(engine)).tiers) == {"free"}
    await run(engine, "UPDATE tiers SET retired_at = now()")
    await seed(engine, Declared())
    assert await run(engine, "SELECT count(*) FROM tiers") == [(1,)]


async def test_a_shipped_tier_that_an_admin_changed_stays_changed(engine: AsyncEngine) -> None:
    await seed(engine, Declared())
    await run(engine, """UPDATE tiers SET doc = doc || '{"title": "by hand"}' WHERE name = 'pro'""")
    await seed(engine, Declared())
    assert (await load(engine)).tiers["pro"].title == "by hand"


async def test_what_is_usual_does_not_count_as_written() -> None:
    """So that a field which a later release brings does not make every entry of the file look changed."""
    assert digest_of(tier_document(Tier(name="free", price_every="month"))) == digest_of({"name": "free"})


async def test_a_seeding_that_changed_something_is_on_record(engine: AsyncEngine) -> None:
    await seed(engine, DECLARED)
    await seed(engine, DECLARED)
    ((event, detail),) = await run(engine, "SELECT event, detail FROM system_events")
    assert event == "catalog.seeded" and detail == {"upstreams": ["u"], "models": ["m"], "tiers": ["free"]}

"""What admins do to the catalogue: versions, checks against all the rest, retiring, prices, the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from config.catalog import Rates
from config.catalog_forms import ModelForm, UpstreamForm
from config.catalog_shelf import MODELS, TIERS, UPSTREAMS, Shelf, find_entry
from config.catalog_sql import CatalogError, load
from config.catalog_write import CatalogWriter, InUse, NameTaken, NoEntry, Retired, StaleWrite
from config.complaints import ComplaintsError
from config.form import Document
from config.price_versions import price_versions
from config.tier_form import TierForm
from ledger.audit import Actor

ADA = Actor("ada@example.org", "owner", "127.0.0.1", UUID(int=7))


@pytest.fixture
def writer(engine: AsyncEngine) -> CatalogWriter:
    return CatalogWriter(engine, default_tier="free")


def upstream(name: str = "u", **more: Any) -> UpstreamForm:
    return UpstreamForm.model_validate({"name": name, "base_url": "http://backend.example/v1", **more})


def model(name: str = "m", **more: Any) -> ModelForm:
    return ModelForm.model_validate({"id": name, "upstream": "u", "prices": {"input": "0.15"}, **more})


def tier(name: str = "t", **more: Any) -> TierForm:
    return TierForm.model_validate({"name": name, **more})


def setting(shelf: Shelf[Any, Any], **changes: Any) -> Callable[[Document], Any]:
    """An amendment that sets these fields."""
    return lambda document: shelf.form.model_validate(document | changes)


async def run(engine: AsyncEngine, statement: str, **values: Any) -> list[Any]:
    async with engine.begin() as connection:
        result = await connection.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []


async def furnished(writer: CatalogWriter) -> None:
    await writer.create(UPSTREAMS, upstream())
    await writer.create(MODELS, model())
    await writer.create(TIERS, tier("free", upgrade_to=None))


async def complaint(work: Any) -> tuple[str, str]:
    with pytest.raises(ComplaintsError) as caught:
        await work
    (only,) = caught.value.complaints
    return only.where, only.what


async def test_what_is_created_is_in_force_with_its_price(writer: CatalogWriter, engine: AsyncEngine) -> None:
    await furnished(writer)
    catalog = await load(engine)
    assert set(catalog.upstreams) == {"u"} and set(catalog.tiers) == {"free"}
    price = catalog.price("m")
    assert price is not None and price.rates == Rates({"input": 150_000})
    entry = await find_entry(engine, MODELS, "m")
    assert entry is not None and (entry.version, entry.rates, entry.retired_at) == (1, price.rates, None)


async def test_a_name_is_taken_once_and_stays_taken_when_retired(writer: CatalogWriter) -> None:
    await writer.create(TIERS, tier())
    with pytest.raises(NameTaken, match=r"there is a tier t already$"):
        await writer.create(TIERS, tier())
    await writer.retire(TIERS, "t", expected=1)
    with pytest.raises(NameTaken, match="restore it"):
        await writer.create(TIERS, tier())


async def test_a_change_is_made_on_the_version_that_was_read(writer: CatalogWriter) -> None:
    await writer.create(TIERS, tier())
    changed = await writer.change(TIERS, "t", setting(TIERS, title="T"), expected=1)
    assert (changed.version, changed.value.title) == (2, "T")
    with pytest.raises(StaleWrite) as stale:
        await writer.change(TIERS, "t", setting(TIERS, title="other"), expected=1)
    assert stale.value.version == 2


async def test_of_two_who_change_the_same_version_one_is_told(writer: CatalogWriter) -> None:
    await writer.create(TIERS, tier())
    changes = (writer.change(TIERS, "t", setting(TIERS, title=str(n)), expected=1) for n in range(8))
    done = await asyncio.gather(*changes, return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["Entry", *["StaleWrite"] * 7]


async def test_a_change_of_nothing_is_no_change(writer: CatalogWriter, engine: AsyncEngine) -> None:
    await writer.create(TIERS, tier())
    assert (await writer.change(TIERS, "t", setting(TIERS), expected=1)).version == 1
    assert await run(engine, "SELECT count(*) FROM audit") == [(1,)]


async def test_an_entry_must_fit_the_others(writer: CatalogWriter) -> None:
    assert await complaint(writer.create(MODELS, model())) == ("upstream", "there is no upstream u")
    await furnished(writer)
    assert (await complaint(writer.create(MODELS, model("n", fallback="x"))))[0] == "fallback"
    assert (await complaint(writer.create(TIERS, tier("t", upgrade_to="x"))))[0] == "upgrade_to"
    await writer.create(MODELS, model("n", fallback="m"))
    where, what = await complaint(writer.change(MODELS, "m", setting(MODELS, fallback="n"), expected=1))
    assert (where, what) == ("fallback", "the fallbacks of m lead back to it")


async def test_a_name_is_for_ever_and_a_price_is_not_taken_away(writer: CatalogWriter) -> None:
    await furnished(writer)
    assert (await complaint(writer.change(MODELS, "m", setting(MODELS, id="n"), expected=1)))[0] == "id"
    assert (await complaint(writer.change(MODELS, "m", setting(MODELS, prices=None), expected=1)))[0] == "prices"


async def test_a_changed_price_begins_as_a_version_and_the_old_one_stays(
    writer: CatalogWriter, engine: AsyncEngine
) -> None:
    await furnished(writer)
    changed = await writer.change(MODELS, "m", setting(MODELS, prices={"input": "0.30"}), expected=1)
    assert (changed.version, changed.rates) == (2, Rates({"input": 300_000}))
    states = [(each.state, each.rates.pico["input"]) for each in await price_versions(engine, "m", limit=9)]
    assert states == [("in_force", 300_000), ("past", 150_000)]
    await writer.change(MODELS, "m", setting(MODELS, title="M"), expected=2)
    assert await run(engine, "SELECT count(*) FROM prices") == [(2,)]


async def test_who_uses_an_entry_is_said_when_it_cannot_be_retired(writer: CatalogWriter, engine: AsyncEngine) -> None:
    await furnished(writer)
    await writer.create(MODELS, model("n", fallback="m"))
    await writer.create(TIERS, tier("low", upgrade_to="free"))
    await run(engine, "INSERT INTO wallets (id) VALUES (gen_random_uuid())")
    group = "INSERT INTO groups (id, name, doc, wallet_id) SELECT id, 'Team', '{\"tier\": \"free\"}', id FROM wallets"
    await run(engine, group)
    used: dict[tuple[Shelf[Any, Any], str], tuple[str, ...]] = {
        (UPSTREAMS, "u"): ("model m", "model n"),
        (MODELS, "m"): ("model n (as its fallback)",),
        (TIERS, "free"): (
            "new users (it is the default tier)", "tier low (as its upgrade)", "group Team", "user x",
        ),
    }  # fmt: skip
    for (shelf, name), uses in used.items():
        with pytest.raises(InUse) as caught:
            await writer.retire(shelf, name, expected=1, users=["user x"] if shelf is TIERS else [])
        assert caught.value.uses == uses


async def test_a_retired_entry_is_not_offered_and_can_come_back(writer: CatalogWriter, engine: AsyncEngine) -> None:
    await furnished(writer)
    retired = await writer.retire(MODELS, "m", expected=1)
    assert retired.retired_at is not None and retired.version == 2
    assert (await load(engine)).model("m") is None
    assert (await writer.retire(MODELS, "m", expected=2)).version == 2
    with pytest.raises(Retired):
        await writer.change(MODELS, "m", setting(MODELS, title="M"), expected=2)
    with pytest.raises(Retired):
        await writer.add_price("m", Rates({"input": 1}))
    restored = await writer.restore(MODELS, "m")
    assert (restored.retired_at, restored.version) == (None, 3)
    assert (await writer.restore(MODELS, "m")).version == 3
    assert (await load(engine)).model("m") is not None


async def test_what_no_longer_fits_is_not_restored(writer: CatalogWriter) -> None:
    await furnished(writer)
    await writer.retire(MODELS, "m", expected=1)
    await writer.retire(UPSTREAMS, "u", expected=1)
    assert await complaint(writer.restore(MODELS, "m")) == ("upstream", "there is no upstream u")


async def test_a_model_on_an_upstream_that_is_just_retired_is_refused_whoever_comes_first(
    writer: CatalogWriter, engine: AsyncEngine
) -> None:
    await writer.create(UPSTREAMS, upstream())
    both = (writer.retire(UPSTREAMS, "u", expected=1), writer.create(MODELS, model()))
    done = await asyncio.gather(*both, return_exceptions=True)
    assert sum(isinstance(each, InUse | ComplaintsError) for each in done) == 1


async def test_what_never_was_is_said(writer: CatalogWriter) -> None:
    for work in (
        writer.change(TIERS, "x", setting(TIERS), expected=1),
        writer.retire(TIERS, "x", expected=1),
        writer.restore(TIERS, "x"),
        writer.add_price("x", Rates()),
    ):
        with pytest.raises(NoEntry):
            await work


async def test_a_price_can_be_planned_and_moves_the_version_of_its_model(
    writer: CatalogWriter, engine: AsyncEngine
) -> None:
    await furnished(writer)
    later = datetime.now(UTC) + timedelta(hours=1)
    planned = await writer.add_price("m", Rates({"input": 9}), later)
    assert (planned.state, planned.effective_at) == ("planned", later)
    price = (await load(engine)).price("m")
    assert price is not None and price.pico == {"input": 150_000}
    with pytest.raises(StaleWrite):
        await writer.change(MODELS, "m", setting(MODELS, title="M"), expected=1)


async def test_a_price_does_not_begin_in_the_past(writer: CatalogWriter, engine: AsyncEngine) -> None:
    await furnished(writer)
    where, _ = await complaint(writer.add_price("m", Rates({"input": 9}), datetime.now(UTC) - timedelta(seconds=1)))
    assert where == "effective_at"
    assert await run(engine, "SELECT count(*) FROM prices") == [(1,)]


async def test_every_write_is_audited_with_who_and_what_it_was(writer: CatalogWriter, engine: AsyncEngine) -> None:
    await writer.create(UPSTREAMS, upstream(headers={"x-team": "a", "x-secret": "hunter2"}), by=ADA)
    await writer.create(MODELS, model(), by=ADA)
    await writer.change(MODELS, "m", setting(MODELS, title="M", prices={"input": "0.30"}), expected=1, by=ADA)
    await writer.add_price("m", Rates({"input": 1}), by=ADA)
    await writer.retire(MODELS, "m", expected=3, by=ADA)
    await writer.restore(MODELS, "m", by=ADA)
    rows = await run(engine, "SELECT actor, request_id, action, target_id, before, after FROM audit ORDER BY seq")
    assert {(row.actor, row.request_id) for row in rows} == {("ada@example.org", UUID(int=7))}
    assert [(row.action, row.target_id) for row in rows] == [
        ("upstream.create", "u"),
        ("model.create", "m"),
        ("model.change", "m"),
        ("model.price", "m"),
        ("model.retire", "m"),
        ("model.restore", "m"),
    ]
    assert rows[0].before is None and rows[0].after["headers"] == {"x-team": "a", "x-secret": "***"}
    assert (rows[2].before["prices"], rows[2].after["prices"]) == ({"input": "0.15"}, {"input": "0.30"})
    assert "title" not in rows[2].before and rows[2].after["title"] == "M"
    assert rows[3].after["prices"] == {"input": "0.000001"}
    assert "retired_at" in rows[4].after and "retired_at" not in rows[5].after


async def test_a_write_that_is_refused_leaves_nothing(writer: CatalogWriter, engine: AsyncEngine) -> None:
    await complaint(writer.create(MODELS, model()))
    assert await run(engine, "SELECT (SELECT count(*) FROM models), (SELECT count(*) FROM audit)") == [(0, 0)]
    assert await run(engine, "SELECT count(*) FROM prices") == [(0,)]


async def test_a_database_that_is_away_is_a_catalogue_error() -> None:
    engine = create_async_engine("postgresql+asyncpg://u@127.0.0.1:1/d")
    with pytest.raises(CatalogError, match="did not answer"):
        await CatalogWriter(engine, default_tier="free").restore(TIERS, "t")
    await engine.dispose()

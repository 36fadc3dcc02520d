"""File and database side by side: what differs, in which field, and what the next start does about it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from config.catalog import Declared, Model, Rates, Timeouts, Upstream
from config.catalog_forms import ModelForm, UpstreamForm
from config.catalog_shelf import MODELS, TIERS, UPSTREAMS
from config.catalog_sql import seed
from config.catalog_write import CatalogWriter
from config.differences import Difference, FieldDifference, differences
from config.tier_form import TierForm
from policies.tier import Tier

FILE = Declared(
    upstreams=(Upstream("u", "http://backend.example/v1", headers={"x-key": "a"}),),
    models=(Model("m", "u", "m"),),
    tiers=(Tier("free"), Tier("pro", price=20 * 10**9)),
    rates={"m": Rates({"input": 150_000})},
)


def writer(engine: AsyncEngine) -> CatalogWriter:
    return CatalogWriter(engine, default_tier="free")


async def compared(engine: AsyncEngine, file: Declared = FILE) -> dict[str, Difference]:
    return {f"{each.noun} {each.name}": each for each in await differences(engine, file)}


async def test_what_was_just_applied_does_not_differ(engine: AsyncEngine) -> None:
    await seed(engine, FILE)
    assert await compared(engine) == {}


async def test_before_the_first_start_all_is_in_the_file_alone_and_will_be_applied(engine: AsyncEngine) -> None:
    found = await compared(engine)
    assert set(found) == {"upstream u", "model m", "tier free", "tier pro"}
    assert all((each.where, each.applied, each.retired) == ("file", True, False) for each in found.values())


async def test_a_change_over_the_api_is_shown_by_field_and_is_kept(engine: AsyncEngine) -> None:
    await seed(engine, FILE)
    changes: dict[str, Any] = {"price": "25", "title": "Pro"}
    await writer(engine).change(TIERS, "pro", lambda doc: TierForm.model_validate(doc | changes), expected=1)
    (found,) = (await compared(engine)).values()
    assert (found.where, found.applied) == ("both", False)
    assert set(found.fields) == {FieldDifference("price", "20.0000", "25.0000"), FieldDifference("title", None, "Pro")}
    assert found.line() == (
        "tier pro: price is '20.0000' in the file, '25.0000' here, title is None in the file, 'Pro' here; "
        "a start changes nothing"
    )
    await seed(engine, FILE)
    assert await compared(engine) == {"tier pro": found}


async def test_a_change_in_the_file_is_applied_at_the_next_start(engine: AsyncEngine) -> None:
    await seed(engine, FILE)
    edited = replace(FILE, upstreams=(replace(FILE.upstreams[0], timeouts=Timeouts(idle_s=5)),))
    (found,) = (await compared(engine, edited)).values()
    assert found.fields == (FieldDifference("timeouts.idle_s", 5, None),)
    assert found.applied and "the next start applies the file" in found.line()
    await seed(engine, edited)
    assert await compared(engine, edited) == {}


async def test_a_price_is_compared_by_kind(engine: AsyncEngine) -> None:
    await seed(engine, FILE)
    prices = {"prices": {"input": "0.30", "output": "0.60"}}
    await writer(engine).change(MODELS, "m", lambda doc: ModelForm.model_validate(doc | prices), expected=1)
    (found,) = (await compared(engine)).values()
    assert set(found.fields) == {
        FieldDifference("prices.input", "0.15", "0.30"),
        FieldDifference("prices.output", None, "0.60"),
    }
    dearer = replace(FILE, rates={"m": Rates({"input": 1})})
    assert (await compared(engine, dearer))["model m"].applied


async def test_a_model_that_is_free_is_told_from_one_without_a_price(engine: AsyncEngine) -> None:
    await seed(engine, replace(FILE, rates={}))
    (found,) = (await compared(engine, replace(FILE, rates={"m": Rates()}))).values()
    assert found.fields == (FieldDifference("prices", {}, None),)


async def test_what_the_api_made_is_in_the_database_alone(engine: AsyncEngine) -> None:
    await seed(engine, FILE)
    form = UpstreamForm.model_validate({"name": "v", "base_url": "http://backend.example/v1"})
    await writer(engine).create(UPSTREAMS, form)
    found = await compared(engine)
    assert found == {"upstream v": Difference("upstream", "v", "database")}
    assert found["upstream v"].line() == "upstream v: is not in the file; a start changes nothing"


async def test_an_entry_of_the_file_that_was_retired_stays_so(engine: AsyncEngine) -> None:
    await seed(engine, FILE)
    await writer(engine).retire(TIERS, "pro", expected=1)
    assert await compared(engine) == {"tier pro": Difference("tier", "pro", "file", retired=True)}
    await seed(engine, FILE)
    assert (await compared(engine))["tier pro"].line().endswith("retired here; a start changes nothing")


async def test_a_header_that_may_be_a_secret_is_said_to_differ_and_not_shown(engine: AsyncEngine) -> None:
    await seed(engine, FILE)
    async with engine.begin() as connection:
        await connection.execute(text("""UPDATE upstreams SET doc = jsonb_set(doc, '{headers,x-key}', '"b"')"""))
    (found,) = (await compared(engine)).values()
    assert found.fields == (FieldDifference("headers.x-key", "***", "***"),)

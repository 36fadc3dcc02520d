"""A price list is shown as a review, entered only when told so, and never over an old price."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from config.catalog import Catalog, Model, Rates
from config.catalog_sql import load
from config.price_list import PriceListError, read_price_list
from farebox.cli import app
from farebox.prices import Review, import_prices, instant_of, read_file, review
from ledger.price import Price
from ledger.store_sql import make_engine
from tests import house
from tests.backend import Backend
from tests.house import Farebox
from tests.process import environment

CHAT: dict[str, Any] = {"mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07}
PRICED = Rates({"input": 150_000, "output": 600_000})


def listed(**entries: Any) -> Any:
    return read_price_list(json.dumps(entries).encode())


def catalog(*models: Model, **prices: Rates) -> Catalog:
    return Catalog(
        models={model.id: model for model in models},
        prices={name: Price.of(1, name, rates) for name, rates in prices.items()},
    )


def lines(found: Review, **how: bool) -> str:
    return "\n".join(found.lines(**how))


def test_a_review_says_what_is_new_changed_unchanged_refused_and_missing() -> None:
    models = [Model(name, "u", f"up-{name}") for name in ("new", "dearer", "same", "bad", "gone")]
    ours = catalog(*models, dearer=Rates({"input": 100_000, "output": 600_000}, 7), same=PRICED)
    wrong = {**CHAT, "input_cost_per_token": -1}
    found = review(
        ours, listed(**{"up-new": CHAT, "dearer": CHAT, "up-same": CHAT, "up-bad": wrong, "x": CHAT, "worse": wrong})
    )
    assert [(change.model, change.before is None) for change in found.changes] == [("dearer", False), ("new", True)]
    assert (found.unchanged, found.unlisted, found.others) == (("same",), ("gone",), ("x",))
    assert (list(found.refused), list(found.others_refused)) == (["bad"], ["worse"])
    assert found.changes[0].after == Rates(PRICED.pico, 7)
    said = lines(found)
    assert (
        "changed   dearer\n    input                                0.10 → 0.15\nnew       new (listed as up-new)"
        in said
    )
    assert "refused   bad: input_cost_per_token is below zero" in said and "refused   worse (not in" in said
    assert "1 new, 1 changed, 1 unchanged, 1 refused, 1 not in the list; the list has 1 more models" in said
    assert "could add x" not in said and "could add x" in lines(found, everything=True)


def test_a_review_of_one_upstream_leaves_the_others_alone() -> None:
    ours = catalog(Model("a", "one", "a"), Model("b", "two", "b"))
    found = review(ours, listed(a=CHAT, b=CHAT), "one")
    assert ([change.model for change in found.changes], found.others) == (["a"], ())


def test_every_part_of_a_price_is_shown_under_a_name_of_its_own() -> None:
    full = {
        **CHAT,
        "output_cost_per_image": 0.04,
        "input_cost_per_token_above_200k_tokens": 3e-07,
        "input_cost_per_token_flex": 7.5e-08,
        "input_cost_per_query": 0.002,
        "input_cost_per_pixel": 1e-8,
    }
    said = lines(review(catalog(Model("m", "u", "m")), listed(m=full)))
    for part in ("→ 0.04 each", "above 200000: input", "flex: input", "→ 0.0020 each", "note: input_cost_per_pixel"):
        assert part in said


def test_many_refusals_are_shortened() -> None:
    found = review(catalog(), listed(**{f"m{number}": {"input_cost_per_token": -1} for number in range(60)}))
    assert "refused   10 more" in lines(found)


def test_an_instant_is_utc_unless_it_says_otherwise_and_never_in_the_past() -> None:
    now = datetime(2027, 1, 1, tzinfo=UTC)
    assert instant_of("2027-01-31", now) == datetime(2027, 1, 31, tzinfo=UTC)
    assert instant_of("2027-01-31T01:00+01:00", now) == datetime(2027, 1, 31, tzinfo=UTC)
    for wrong in ("2026-12-31", "soon"):
        with pytest.raises(ValueError, match=wrong):
            instant_of(wrong, now)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    for name in ("bad.json", "none.json"):
        with pytest.raises(PriceListError, match=name):
            read_file(tmp_path / name)


async def test_what_is_applied_is_in_force_and_the_second_time_nothing_changes(
    farebox: Farebox, data_dir: Path, database_url: str, redis_url: str
) -> None:
    settings = house.settings(data_dir, database_url, redis_url)
    engine = make_engine(database_url)
    before = (await load(engine)).prices
    name = next(iter(before))
    only = listed(**{name: {**CHAT, "input_cost_per_token": 9e-07, "output_cost_per_token": 9e-07}})
    assert len((await import_prices(settings, only)).changes) == 1
    assert (await load(engine)).prices == before
    await import_prices(settings, only, apply=True)
    after = (await load(engine)).prices
    assert after[name].pico == {"input": 900_000, "output": 900_000} and after[name].version > before[name].version
    assert (await import_prices(settings, only, apply=True)).unchanged == (name,)
    assert (await load(engine)).prices == after
    await engine.dispose()


async def test_the_command_reviews_applies_and_says_by_its_code_how_it_went(
    farebox: Farebox, data_dir: Path, database_url: str, redis_url: str, backend: Backend, tmp_path: Path
) -> None:
    env = environment(data_dir, database_url, redis_url, backend.url)
    ours = {name: value for name, value in env.items() if name.startswith("FAREBOX_")}
    engine = make_engine(database_url)
    name = next(iter((await load(engine)).prices))
    await engine.dispose()
    good, bad, broken = (tmp_path / each for each in ("good.json", "bad.json", "broken.json"))
    good.write_text(json.dumps({name: {**CHAT, "input_cost_per_token": 9e-07}}))
    bad.write_text(json.dumps({name: {**CHAT, "input_cost_per_token": -1}}))
    broken.write_text("[")

    async def run(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["prices", "import", *words], env=ours)
        return done.exit_code, done.output

    code, said = await run(str(good))
    assert code == 0 and "Nothing is changed" in said and f"changed   {name}" in said
    code, said = await run(str(good), "--apply", "--effective", "2099-01-01")
    assert code == 0 and "These prices are entered." in said
    assert (await run(str(bad)))[0] == 1
    assert (await run(str(broken)))[0] == 2
    assert (await run(str(good), "--effective", "2001-01-01"))[0] == 2
    code, said = await run(str(good), "--upstream", "nobody")
    assert code == 1 and "there is no upstream nobody" in said

"""Models over the API: with their prices, their backends and their ids, however those are written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.house import Admin, Farebox, until

FULL: dict[str, Any] = {
    "upstream": "main",
    "upstream_model": "there",
    "title": "The model",
    "description": "Several\nlines.",
    "kind": "chat",
    "tokenizer": "o200k_base",
    "tokenizer_factor": "1.08",
    "context": 128_000,
    "max_output": 16_384,
    "fallback": "small",
    "on_disconnect": "drain",
    "listed": False,
}
PRICES = {"input": "0.15", "output": "0.60", "per_request": "0.0001", "variants": {"flex": {"input": "0.075"}}}


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


def said(prices: dict[str, Any]) -> dict[str, Any]:
    """What a price says, without the kinds it does not name."""
    return {name: said(value) if isinstance(value, dict) else value for name, value in prices.items() if value}


async def test_a_model_is_made_and_read_with_every_field(admin: Admin) -> None:
    answer = await admin.post("/models", {"id": "made", **FULL, "prices": PRICES})
    assert (answer.status, answer.headers["location"]) == (201, "/admin/api/v1/models/made"), answer.body
    made = answer.json()
    assert {name: made[name] for name in FULL} == FULL
    assert said(made["prices"]) == PRICES
    assert (await admin.get("/models/made")).json() == made


async def test_an_id_may_hold_what_vendors_write(admin: Admin) -> None:
    for name in ("Qwen/Qwen3-8B", "a:b@c", "ä", "50%", "a?b#c"):
        made = await admin.post("/models", {"id": name, "upstream": "main", "prices": PRICES})
        assert made.status == 201, made.body
        path = made.headers["location"].removeprefix("/admin/api/v1")
        assert (await admin.read(path))["id"] == (await admin.read(path.replace("Qwen/", "Qwen%2F")))["id"] == name
        assert (await admin.read(f"{path}/prices"))["data"][0]["model"] == name


async def test_a_model_is_called_at_once_and_no_more_when_it_is_retired(admin: Admin, module_farebox: Farebox) -> None:
    ada = await module_farebox.caller(name="Models")
    await admin.made("/models", {"id": "fresh", "upstream": "main", "prices": PRICES})

    async def status(expected: int) -> bool:
        return (await module_farebox.chat(ada, model="fresh")).status == expected

    await until(lambda: status(200))
    assert (await admin.delete("/models/fresh", match='"1"')).status == 204
    await until(lambda: status(404))


async def test_a_model_without_a_price_is_refused_until_it_has_one(admin: Admin, module_farebox: Farebox) -> None:
    ada = await module_farebox.caller(name="Unpriced")
    made = await admin.made("/models", {"id": "later", "upstream": "main"})
    assert made["prices"] is None
    await until(lambda: _refused(module_farebox, ada, "price_missing"))
    answer = await admin.patch("/models/later", {"prices": PRICES}, match='"1"')
    assert answer.status == 200 and said(answer.json()["prices"]) == PRICES

    async def served() -> bool:
        return (await module_farebox.chat(ada, model="later")).status == 200

    await until(served)


async def _refused(farebox: Farebox, caller: Any, code: str) -> bool:
    return bool((await farebox.chat(caller, model="later")).error["code"] == code)


async def test_a_patch_of_prices_merges_kind_by_kind_and_begins_as_a_version(admin: Admin) -> None:
    await admin.made("/models", {"id": "merged", "upstream": "main", "prices": PRICES})
    patch = {"prices": {"input": "0.30", "variants": {"flex": None, "batch": {"output": "0.30"}}}}
    answer = await admin.patch("/models/merged", patch, match='"1"')
    assert answer.status == 200, answer.body
    assert said(answer.json()["prices"]) == PRICES | {"input": "0.30", "variants": {"batch": {"output": "0.30"}}}
    assert len((await admin.read("/models/merged/prices"))["data"]) == 2
    answer = await admin.patch("/models/merged", {"title": "M"}, match='"2"')
    assert len((await admin.read("/models/merged/prices"))["data"]) == 2
    answer = await admin.patch("/models/merged", {"prices": None}, match='"3"')
    assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == "#/prices"


async def test_what_does_not_fit_the_others_is_refused_in_its_place(admin: Admin) -> None:
    answer = await admin.post("/models", {"id": "x", "upstream": "nowhere", "fallback": "nobody"})
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == {
        "#/upstream": "there is no upstream nowhere",
        "#/fallback": "there is no model nobody",
    }
    answer = await admin.post("/models", {"id": "x", "upstream": "main", "prices": {"input": 0.15, "inptu": "1"}})
    assert {error["pointer"] for error in answer.json()["errors"]} == {"#/prices/input", "#/prices/inptu"}


async def test_a_ring_of_fallbacks_is_refused(admin: Admin) -> None:
    await admin.made("/models", {"id": "ring-a", "upstream": "main"})
    await admin.made("/models", {"id": "ring-b", "upstream": "main", "fallback": "ring-a"})
    answer = await admin.patch("/models/ring-a", {"fallback": "ring-b"}, match='"1"')
    assert answer.status == 422 and "lead back" in answer.json()["errors"][0]["detail"]


async def test_a_models_fallback_stays_and_a_model_whose_backend_is_gone_is_not_restored(admin: Admin) -> None:
    await admin.made("/upstreams", {"name": "passing", "base_url": "http://backend.example"})
    await admin.made("/models", {"id": "needed", "upstream": "passing"})
    await admin.made("/models", {"id": "needing", "upstream": "main", "fallback": "needed"})
    answer = await admin.delete("/models/needed", match='"1"')
    assert (answer.status, answer.json()["used_by"]) == (409, ["model needing (as its fallback)"])
    await admin.patch("/models/needing", {"fallback": None}, match='"1"')
    assert (await admin.delete("/models/needed", match='"1"')).status == 204
    assert (await admin.delete("/upstreams/passing", match='"1"')).status == 204
    answer = await admin.post("/models/needed/restore")
    assert (answer.status, answer.json()["type"]) == (409, "urn:farebox:problem:does-not-fit")
    assert "there is no upstream passing" in answer.json()["detail"]


async def test_models_are_listed_with_their_prices_and_exported(admin: Admin) -> None:
    models = {model["id"]: model for model in (await admin.read("/models", search="small"))["data"]}
    assert said(models["small"]["prices"]) == {
        "input": "0.15", "cache_read": "0.075", "output": "0.60", "per_request": "0.0000",
    }  # fmt: skip
    for form in ("csv", "xlsx"):
        answer = await admin.get("/models", format=form)
        assert answer.status == 200 and len(answer.body) > 500

"""The list of models: whole and quick for a service, also with nobody to ask; what a tier grants for everybody else."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, cast
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from gateway.account import refused
from gateway.errors import Refusal
from gateway.identity import ServiceKey
from gateway.language import sentence, shipped
from gateway.models import Models
from policies.key_limits import KeyLimits
from policies.principal import Principal
from tests.gateway.offers import CATALOG
from tests.gateway.parts import asked

PRICES = "https://fare.example/pricing"


class Faces:
    """Says who calls; ``answer`` may be a failure."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    async def identify_lister(self, headers: Any) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await asyncio.sleep(60)
        return self.answer


class Tiers:
    def tier_of(self, principal: Principal, catalog: Any) -> Any:
        return catalog.tiers[principal.tier]


SERVICE = ServiceKey(UUID(int=9), "webui", ())
AWAY = Refusal.of("ledger_unavailable", sentence("internal"), retry_after_s=2)


def who(tier: str, limits: KeyLimits | None = None) -> Principal:
    named = ("local", "s", "", "Ada", "user", tier, "active", "en")
    return Principal(UUID(int=1), UUID(int=2), *named, limits=limits)


class House:
    def __init__(self, answer: Any = SERVICE, catalog: Any = CATALOG, language: str = "en") -> None:
        self.faces, self.catalog = Faces(answer), catalog
        self.models = Models(
            cast(Any, self.faces), cast(Any, Tiers()), lambda: self.catalog, shipped()[language], PRICES
        )
        table = [
            Route("/v1/models", self.models.__call__),
            Route("/v1/models/{model_id:path}", self.models.one),
        ]
        self.app = Starlette(routes=table, exception_handlers={Refusal: refused})

    async def get(self, path: str = "/v1/models", key: str = "k") -> tuple[int, Any]:
        status, _, body = await asked(self.app, path, headers={"authorization": f"Bearer {key}"})
        return status, body

    async def ids(self) -> list[str]:
        status, body = await self.get()
        assert status == 200
        return [entry["id"] for entry in body["data"]]


async def test_a_service_gets_every_chat_model_and_nothing_else() -> None:
    assert await House().ids() == ["large", "secret", "small", "unpriced"]


async def test_others_get_what_tier_and_key_grant() -> None:
    assert await House(who("free")).ids() == ["small"]
    assert await House(who("pro")).ids() == ["large", "paint", "secret", "small", "unpriced"]
    assert await House(who("pro", KeyLimits(models=("l*",)))).ids() == ["large"]


async def test_an_entry_tells_a_chat_page_name_tier_price_link_and_that_usage_is_shown() -> None:
    _, large = await House().get("/v1/models/large")
    assert (large["name"], large["tags"]) == ("Large & Co", [{"name": "yearly"}])
    meta = large["info"]["meta"]
    assert meta["capabilities"] == {"usage": True}
    assert meta["description"].split("\n") == [
        f"[Prices and plans]({PRICES}) · <script>alert('x')</script>",
        "input: 2.50 per 1M · output: 10.00 per 1M · 0.000001 per request · above 200 input tokens: input: 5.00 per 1M",
    ]
    _, unpriced = await House().get("/v1/models/unpriced")
    assert unpriced["pricing"] is None and unpriced["info"]["meta"]["description"].startswith("[Prices")


async def test_what_stands_below_a_model_is_in_the_houses_language() -> None:
    _, small = await House(language="de").get("/v1/models/small")
    assert "Eingabe: 0.15 je 1 Mio." in small["info"]["meta"]["description"]


async def test_the_whole_list_is_made_once_for_each_catalogue() -> None:
    house = House()
    assert await house.ids() and await house.ids()
    made = house.models._whole
    await house.ids()
    assert house.models._whole is made
    house.catalog = dataclasses.replace(CATALOG, models={"small": CATALOG.models["small"]}, revision="r2")
    assert await house.ids() == ["small"]


@pytest.mark.parametrize("failure", [AWAY, None], ids=["refused", "without an answer"])
async def test_a_known_service_is_answered_while_nobody_can_be_asked(
    failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.models._PATIENCE_S", 0.05)
    house = House()
    known = await house.ids()
    house.faces.answer = failure
    assert await house.ids() == known
    status, body = await house.get(key="another")
    assert (status, body["error"]["code"]) == (503, "ledger_unavailable")


@pytest.mark.parametrize("code", ["key_revoked", "key_expired", "invalid_api_key"])
async def test_a_key_that_is_known_to_be_none_any_more_is_refused(code: str) -> None:
    house = House()
    await house.ids()
    house.faces.answer = Refusal.of(code, "No.")
    assert (await house.get())[0] == 401


async def test_what_is_remembered_of_services_is_bounded_and_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.models._SERVICES_MAX", 2)
    house = House()
    for key in ("a", "b", "c"):
        await house.get(key=key)
    assert len(house.models._services) == 2 and b"Bearer c" not in house.models._services


async def test_a_model_that_is_not_granted_is_not_found() -> None:
    status, body = await House(who("free")).get("/v1/models/large")
    assert (status, body["error"]["code"]) == (404, "model_not_found")

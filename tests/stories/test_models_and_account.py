"""What a caller reads without spending: the models it may use, its own account, and whether the house is well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import house
from tests.backend import Backend
from tests.house import Farebox

PACED = """
[[tiers]]
name = "paced"
title = "Paced"
concurrency = 4
windows = [
    { limit = 20, of = "requests", per = "hour" },
    { limit = "5.00", of = "cost", per = "day", route = "chat.completions", models = ["fl*"] },
]
"""


@pytest.fixture
async def paced(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=PACED) as farebox:
        yield farebox


async def listed(farebox: Farebox, headers: dict[str, str]) -> list[str]:
    answer = await farebox.get("/v1/models", headers)
    assert answer.status == 200 and answer.json()["object"] == "list"
    return [model["id"] for model in answer.json()["data"]]


async def test_a_caller_sees_the_models_of_its_tier(farebox: Farebox) -> None:
    free, paid = await farebox.caller(tier="free"), await farebox.caller(name="Bob")
    assert await listed(farebox, free.headers) == ["flat", "small"]
    assert await listed(farebox, paid.headers) == ["embed", "flat", "large", "small", "unpriced"]


async def test_a_service_sees_every_chat_model_whatever_user_it_names(farebox: Farebox) -> None:
    service = {"authorization": f"Bearer {await farebox.service()}"}
    chats = ["flat", "large", "small", "unpriced"]
    assert await listed(farebox, service) == chats
    assert await listed(farebox, {**service, "x-openwebui-user-id": "u-1"}) == chats
    assert not await farebox.rows("SELECT id FROM users")


async def test_a_model_is_shown_with_its_prices(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free")
    answer = await farebox.get("/v1/models/small", ada)
    model = answer.json()
    assert (model["id"], model["object"], model["owned_by"]) == ("small", "model", "main")
    assert model["pricing"] == {"cache_read": "0.075", "input": "0.15", "output": "0.60"}
    assert model["max_output_tokens"] == 4096


async def test_a_model_the_tier_does_not_grant_is_not_found(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free")
    for name in ("large", "nobody", "small/"):
        answer = await farebox.get(f"/v1/models/{name}", ada)
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert answer.headers["x-request-id"] == answer.error["farebox"]["request_id"]


async def test_nobody_reads_anything_without_a_key(farebox: Farebox) -> None:
    for path in ("/v1/models", "/v1/models/small", "/v1/account"):
        answer = await farebox.get(path)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


async def test_an_account_says_who_what_is_left_and_until_when(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free", usd="1.00")
    assert (await farebox.chat(ada, model="flat")).status == 200
    await farebox.settled()
    account = (await farebox.get("/v1/account", ada)).json()
    assert (account["id"], account["name"], account["email"]) == (str(ada.user.id), "Ada", "ada@example.org")
    assert (account["tier"], account["status"], account["unlimited"]) == ("free", "active", False)
    assert (account["balance"], account["held"]) == ("1.0900", "0.0000")
    assert account["by_kind"] == {"paid": "1.0000", "plan": "0.0900"}
    assert (account["upgrade_tier"], account["upgrade_url"]) == ("pro", "https://fare.example/pricing")
    allowance = account["allowance"]
    assert (allowance["amount"], allowance["left"], allowance["every"]) == ("0.1000", "0.0900", "month")
    assert datetime.strptime(allowance["resets_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) > datetime.now(UTC)


async def test_an_account_shows_every_limit_with_what_is_left(paced: Farebox) -> None:
    ada = await paced.caller(tier="paced")
    assert (await paced.chat(ada, model="flat")).status == 200
    await paced.settled()
    account = (await paced.get("/v1/account", ada)).json()
    requests, cost = account["limits"]
    assert (requests["name"], requests["limit"], requests["left"]) == ("requests/3600", 20, 19)
    assert requests["resets_at"] is not None
    assert (cost["name"], cost["limit"], cost["left"]) == ("cost/86400/chat.completions/fl*", "5.0000", "4.9900")
    assert (cost["route"], cost["models"], cost["seconds"]) == ("chat.completions", ["fl*"], 86400)
    assert account["concurrency"] == {"limit": 4, "used": 0}


async def test_reading_costs_and_counts_nothing(paced: Farebox) -> None:
    ada = await paced.caller(tier="paced")
    first = (await paced.get("/v1/account", ada)).json()
    assert first.pop("account_url").startswith(house.PERSONAL)
    for _ in range(3):
        await paced.get("/v1/models", ada)
    again = (await paced.get("/v1/account", ada)).json()
    assert again | first == again and again.keys() - first.keys() == {"account_url"}
    assert not await paced.charges()


async def test_the_house_says_it_lives_and_can_decide(farebox: Farebox) -> None:
    assert (await farebox.get("/healthz")).json() == {"status": "ok"}
    ready = await farebox.get("/readyz")
    assert (ready.status, ready.json()) == (200, {"status": "ok", "bank": True})

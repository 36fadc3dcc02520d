"""What a caller reads: with parts of the house away, and models of odd names. (The usual is told by the stories.)"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from accounts.directory import Directory
from accounts.keys import FORWARD_USERS
from gateway.account import Account, refused
from gateway.errors import Refusal
from gateway.identity import Identity
from gateway.issuers import Issuers
from gateway.links import Links
from gateway.models import Models
from gateway.tokens import Tokenizers
from ledger.budget import Budget
from ledger.money import parse_usd
from ledger.store import BankUnavailable
from ledger.store_sql import make_engine
from policies.buckets import BucketsBusy, BucketsUnavailable
from policies.buckets_memory import BucketsMemory
from policies.key_limits import KeyLimits
from policies.tier import Window
from tests.gateway.parts import Counter, asked, catalog_of, standing_of

MORE = """
[[models]]
id = "vendor/model:free"
upstream = "main"
title = "A model"
description = "Of a vendor."
context = 1000
prices = { input = "1.00" }

[[tiers]]
name = "tester"
allowance = { tokens = 1000 }

[[tiers]]
name = "none"
allowance = { tokens = 0 }

[[tiers]]
name = "windows"
concurrency = 2
windows = [{ limit = 5, of = "requests", per = "hour" }, { limit = "1.00", of = "cost", per = "day" }]
"""


class House:
    """The routes under test, and a key for a user of a tier."""

    def __init__(self, counter: Counter, directory: Directory) -> None:
        self.counter = counter
        self._identity = Identity(directory, Issuers([]), standing_of(counter.catalog))

    async def key(self, tier: str = "windows", **more: Any) -> str:
        user = await self.counter.accounts.create_user(name="Ada", email="ada@example.org", tier=tier)
        full, _ = await self.counter.accounts.create_key(name="test", user_id=user.id, **more)
        return full

    async def get(self, path: str, key: str, **other: Any) -> tuple[int, Any]:
        parts: dict[str, Any] = {"bank": self.counter.bank, "buckets": self.counter.buckets, **other}
        admitter, catalog = self.counter.admitter(), lambda: self.counter.catalog
        models = Models(self._identity, admitter, catalog)
        account = Account(self._identity, admitter, catalog, parts["bank"], parts["buckets"], parts.get("links"))
        table = [
            Route("/v1/models", models.__call__),
            Route("/v1/models/{model_id:path}", models.one),
            Route("/v1/account", account.__call__),
        ]
        app = Starlette(routes=table, exception_handlers={Refusal: refused})
        status, headers, body = await asked(app, path, headers={"authorization": f"Bearer {key}"})
        assert status == 200 or headers["x-request-id"] == body["error"]["farebox"]["request_id"]
        return status, body


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[House]:
    engine = make_engine(database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    counter = Counter(engine, await catalog_of(engine, MORE), Tokenizers({}))
    directory = Directory(counter.accounts)
    yield House(counter, directory)
    await directory.aclose()
    await engine.dispose()


class Away:
    """A bank or a limiter that is not there."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    async def balance(self, *_: Any) -> Any:
        raise self._failure

    async def read(self, *_: Any) -> Any:
        raise self._failure


@pytest.mark.parametrize("failure", [BucketsUnavailable(), BucketsBusy()])
async def test_without_the_limiter_the_limits_stand_and_what_is_left_is_not_guessed(
    desk: House, failure: Exception
) -> None:
    status, account = await desk.get("/v1/account", await desk.key(), buckets=Away(failure))
    assert status == 200
    assert [(limit["limit"], limit["left"], limit["resets_at"]) for limit in account["limits"]] == [
        (5, None, None),
        ("1.0000", None, None),
    ]
    assert account["concurrency"] == {"limit": 2, "used": None}


async def test_without_the_bank_there_is_no_account(desk: House) -> None:
    status, body = await desk.get("/v1/account", await desk.key(), bank=Away(BankUnavailable("away")))
    assert (status, body["error"]["code"], body["error"]["farebox"]["retry_after_s"]) == (503, "ledger_unavailable", 2)


async def test_an_unused_window_is_whole_and_resets_at_no_time(desk: House) -> None:
    _, account = await desk.get("/v1/account", await desk.key(), buckets=BucketsMemory())
    assert [(limit["left"], limit["resets_at"]) for limit in account["limits"]] == [(5, None), ("1.0000", None)]
    assert (account["allowance"], account["balance"], account["by_kind"]) == (None, "0.0000", {})


async def test_a_tier_without_limits_has_none(desk: House) -> None:
    _, account = await desk.get("/v1/account", await desk.key("pro"))
    assert (account["limits"], account["concurrency"]["limit"]) == ([], None)


async def test_a_key_shows_what_it_allows_itself(desk: House) -> None:
    limits = KeyLimits(
        models=("flat",), windows=(Window(3, "requests", 60),), budget=Budget(parse_usd("2.00"), "month")
    )
    key = await desk.key(limits=limits)
    _, account = await desk.get("/v1/account", key)
    assert [(limit["scope"], limit["limit"]) for limit in account["limits"]] == [
        ("tier", 5),
        ("tier", "1.0000"),
        ("key", 3),
    ]
    (budget,) = account["budgets"]
    assert (budget["of"], budget["limit"], budget["left"]) == ("key", "2.0000", "2.0000")
    _, models = await desk.get("/v1/models", key)
    assert [model["id"] for model in models["data"]] == ["flat"]


async def test_tokens_are_shown_before_any_were_used(desk: House) -> None:
    _, account = await desk.get("/v1/account", await desk.key("tester"))
    assert (account["allowance"]["unit"], account["allowance"]["left"]) == ("tokens", 1000)
    assert (account["credits"], account["group"], account["budgets"]) == (None, None, [])
    _, none = await desk.get("/v1/account", await desk.key("none"))
    assert (none["allowance"]["amount"], none["allowance"]["left"]) == (0, 0)


async def test_a_model_whose_name_has_a_slash_is_found(desk: House) -> None:
    status, model = await desk.get("/v1/models/vendor/model:free", await desk.key())
    assert (status, model["id"], model["name"]) == (200, "vendor/model:free", "A model")
    assert (model["description"], model["context_window"], model["pricing"]) == (
        "Of a vendor.",
        1000,
        {"input": "1.00"},
    )


async def test_a_model_without_a_price_says_so(desk: House) -> None:
    _, model = await desk.get("/v1/models/unpriced", await desk.key("paid"))
    assert model["pricing"] is None and model["name"] == "unpriced"


async def test_a_service_reads_models_and_no_account(desk: House) -> None:
    full, _ = await desk.counter.accounts.create_key(name="service", scopes=[FORWARD_USERS], realm="open-webui")
    status, models = await desk.get("/v1/models", full)
    assert status == 200 and "embed" not in [model["id"] for model in models["data"]]
    status, body = await desk.get("/v1/account", full)
    assert (status, body["error"]["code"]) == (401, "identity_missing")


async def test_an_account_says_where_its_page_is(desk: House) -> None:
    links = Links(b"pepper" * 8, "https://fare.example", 900)
    _, account = await desk.get("/v1/account", await desk.key(), links=links)
    opened = links.read(account["account_url"].removeprefix("https://fare.example/account?token="))
    assert opened is not None and str(opened.user_id) == account["id"]
    _, without = await desk.get("/v1/account", await desk.key())
    assert "account_url" not in without

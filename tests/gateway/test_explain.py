"""The explanation of a next call, against parts in memory. (That it says what the call is told is told by a story.)"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.users import User
from config.catalog import Catalog
from gateway.explain import Explainer
from gateway.tokens import Tokenizers
from ledger.ids import uuid7
from ledger.store_sql import make_engine
from policies.buckets import BucketsBusy
from policies.buckets_memory import BucketsMemory
from policies.explanation import Explanation
from tests.gateway.parts import CHAT, Counter, catalog_of, chat_request, principal_of

MORE = """
[[models]]
id = "voice"
upstream = "main"
kind = "speech"
prices = { characters = "15.00" }

[[models]]
id = "scribe"
upstream = "main"
kind = "transcription"
prices = { seconds = "0.0001" }

[[models]]
id = "painter"
upstream = "main"
kind = "image"
prices = { images = "0.04" }

[[models]]
id = "ranker"
upstream = "main"
kind = "rerank"
prices = { input = "0.02" }

[[models]]
id = "guard"
upstream = "main"
kind = "moderation"
prices = { per_request = "0" }

[[models]]
id = "old"
upstream = "main"
kind = "completion"
prices = { input = "0.02", output = "0.02" }

[[tiers]]
name = "narrow"
models = ["unpriced"]
features = ["tools"]

[[tiers]]
name = "nothing"
models = []

[[tiers]]
name = "mixed"
models = ["guard", "small", "large"]
concurrency = 2
windows = [{ limit = "0.50", of = "cost", per = "hour" }]
"""
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Desk:
    """An explainer over real accounts and a real bank; windows in memory."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def explainer(self, **other: Any) -> Explainer:
        parts = {
            "catalog": lambda: self.counter.catalog,
            "admitter": self.counter.admitter(),
            "bank": self.counter.bank,
            "buckets": self.counter.buckets,
            "default_tier": "free",
        }
        return Explainer(**{**parts, **other})

    async def user(self, tier: str, usd: int = 10**9) -> User:
        user = await self.counter.accounts.create_user(name="Ada", tier=tier)
        if usd:
            await self.counter.bank.credit(user.wallet_id, usd, "paid", source="test", funding="cash:test")
        return user


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers.load(tmp_path_factory.mktemp("data"))


@pytest.fixture
async def desk(database_url: str, tokenizers: Tokenizers) -> AsyncIterator[Desk]:
    engine = make_engine(database_url, command_timeout_s=60, lock_timeout_ms=30_000)
    yield Desk(Counter(engine, await catalog_of(engine, MORE), tokenizers))
    await engine.dispose()


def rule(told: Explanation, name: str) -> Any:
    return next(rule for rule in told.rules if rule.name == name)


@pytest.mark.parametrize("model", ["small", "old", "embed", "ranker", "voice", "scribe", "painter", "guard"])
async def test_every_kind_of_model_can_be_explained(desk: Desk, model: str) -> None:
    told = await desk.explainer().explain(await desk.user("paid"), model, NOW)
    assert told.can_make_request, told
    needed = rule(told, "balance").detail["needed"]
    assert (needed == "0.0000") is (model == "guard")


async def test_the_cheapest_model_of_the_plan_is_meant_where_none_is_named_and_a_chat_before_others(desk: Desk) -> None:
    told = await desk.explainer().explain(await desk.user("mixed"), None, NOW)
    assert rule(told, "model_exists").detail["model"] == "small"
    unpriced = await desk.explainer().explain(await desk.user("narrow"), None, NOW)
    assert (unpriced.code, [each.name for each in unpriced.rules][-1]) == ("price_missing", "price")
    nothing = await desk.explainer().explain(await desk.user("nothing"), None, NOW)
    assert (nothing.code, nothing.message.startswith("No model is part of your plan")) == ("model_not_allowed", True)


async def test_a_planned_tier_is_explained_from_its_instant_on(desk: Desk) -> None:
    user = await desk.user("paid")
    planned = await desk.counter.accounts.set_tier(user.id, "mixed", at=datetime.now(UTC) + timedelta(days=1))
    assert planned is not None
    before = await desk.explainer().explain(planned, "embed", datetime.now(UTC))
    after = await desk.explainer().explain(planned, "embed", datetime.now(UTC) + timedelta(days=2))
    assert (before.tier, before.can_make_request) == ("paid", True)
    assert (after.tier, after.code) == ("mixed", "model_not_allowed")


async def test_without_any_tier_nothing_more_can_be_said(desk: Desk) -> None:
    told = await desk.explainer(catalog=Catalog).explain(await desk.user("paid"), "small", NOW)
    assert (told.code, told.tier, [each.name for each in told.rules]) == (
        "price_missing",
        "",
        ["account", "key", "tier"],
    )


async def test_windows_and_running_calls_are_shown_with_what_is_used(desk: Desk) -> None:
    user = await desk.user("mixed")
    who = principal_of(user)
    await desk.counter.admitter().admit(CHAT, chat_request(model="large", max_tokens=100), who, uuid7(), "")
    told = await desk.explainer().explain(user, "large", datetime.now(UTC))
    window = rule(told, "window")
    assert (window.detail["window"], window.detail["limit"], window.verdict) == ("cost/3600", "0.5000", "pass")
    assert window.detail["used"] != "0.0000" and window.detail["resets_at"] is not None
    assert window.says.startswith("Of 0.5000 USD per hour, ")
    assert rule(told, "concurrency").detail == {"limit": 2, "used": 1}
    assert rule(told, "balance").detail["held"] != "0.0000"
    await desk.counter.admitter().admit(CHAT, chat_request(model="large", max_tokens=100), who, uuid7(), "")
    full = await desk.explainer().explain(user, "large", datetime.now(UTC))
    assert (full.code, rule(full, "concurrency").verdict) == ("too_many_concurrent", "refuse")


async def test_features_and_groups_are_told(desk: Desk) -> None:
    user = await desk.user("narrow")
    assert rule(await desk.explainer().explain(user, "unpriced", NOW), "group").says == (
        "No group counts for this account."
    )
    mixed = await desk.explainer().explain(await desk.user("mixed"), "small", NOW)
    assert rule(mixed, "features").detail == {"granted": ["tools", "images", "web_search", "audio"]}
    kept = await desk.counter.accounts.create_group(name="Team", shared=True)
    await desk.counter.accounts.add_member(kept.group.id, user.id)
    member = await desk.counter.accounts.user(user.id)
    assert member is not None
    catalog = desk.counter.catalog
    grouped = Catalog(
        catalog.upstreams, catalog.models, catalog.tiers, catalog.prices, groups={kept.group.id: kept.group}
    )
    told = await desk.explainer(catalog=lambda: grouped).explain(member, "unpriced", NOW)
    assert rule(told, "group").says == "The account belongs to Team: its wallet pays."


async def test_too_many_questions_for_the_limits_are_no_answer(desk: Desk) -> None:
    class Full(BucketsMemory):
        async def peek(self, ask: Any) -> Any:
            raise BucketsBusy

    told = await desk.explainer(buckets=Full()).explain(await desk.user("paid"), "small", NOW)
    assert (told.code, rule(told, "windows").verdict, rule(told, "balance").verdict) == (
        "limiter_unavailable",
        "unknown",
        "pass",
    )

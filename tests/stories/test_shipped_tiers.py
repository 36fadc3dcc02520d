"""A Farebox for which nobody declared a tier has those it brings along, and each keeps its promise to a caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import house
from tests.backend import Backend
from tests.house import CATALOG, Farebox

_WITHOUT_TIERS = CATALOG[: CATALOG.index("[[tiers]]")]


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, base=_WITHOUT_TIERS) as running:
        yield running


async def test_a_user_seen_for_the_first_time_looks_around_and_is_told_how_to_chat(farebox: Farebox) -> None:
    service = {"authorization": f"Bearer {await farebox.service()}", "x-openwebui-user-id": "u-1"}
    refused = await farebox.chat(service)
    assert (refused.status, refused.error["code"]) == (402, "allowance_exhausted")
    details = refused.error["farebox"]
    assert (details["tier"], details["upgrade_tier"]) == ("free", "basic")
    assert details["upgrade_url"] in refused.error["message"]
    assert not await farebox.charges()
    assert not await farebox.broken()


async def test_whoever_is_free_and_bought_money_may_chat(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free", usd="1.00")
    assert (await farebox.chat(ada)).status == 200
    assert (await farebox.charge())["currency"] == "USD"


async def test_a_tester_pays_with_tokens(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    assert (await farebox.chat(ada)).status == 200
    charge = await farebox.charge()
    assert charge["currency"] == "TOK" and 0 < charge["amount"] < 1000
    account = (await farebox.get("/v1/account", ada)).json()
    assert int(account["allowance"]["amount"]) == 1000
    assert int(account["allowance"]["left"]) == 1000 - charge["amount"]


@pytest.mark.parametrize("tier", ["basic", "premium", "pro", "vip", "creator", "agency", "enterprise"])
async def test_each_tier_with_an_allowance_may_chat_without_more(farebox: Farebox, tier: str) -> None:
    ada = await farebox.caller(tier=tier, usd="0")
    assert (await farebox.chat(ada)).status == 200
    assert (await farebox.charge())["tier"] == tier
    assert not await farebox.broken()


async def test_an_admin_pays_nothing_and_is_recorded(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="admin", usd="0")
    assert (await farebox.chat(ada)).status == 200
    assert (await farebox.charge())["amount"] > 0 and await farebox.spendable(ada) == 0


async def test_what_a_tier_does_not_grant_is_refused(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="basic", usd="0")
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    refused = await farebox.chat(ada, messages=[{"role": "user", "content": picture}])
    assert (refused.status, refused.error["code"]) == (403, "feature_not_allowed")
    assert refused.error["farebox"]["upgrade_tier"] == "premium"

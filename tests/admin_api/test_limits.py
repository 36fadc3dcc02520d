"""Limits over HTTP: what is left, clearing it, and what the next call would meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests import house
from tests.admin_api.conftest import logged_in
from tests.admin_api.world import audited, grouped, path_of, pointers
from tests.backend import Backend, chat
from tests.house import Admin, Farebox

SLOW = """
[[tiers]]
name = "slow"
windows = [
  {limit = 2, of = "requests", per = "hour"},
  {limit = "1.00", of = "cost", per = "day"},
  {limit = 1000, of = "tokens", per = "minute", models = ["large"]},
]
concurrency = 3
"""


@pytest.fixture(scope="module")
async def slow_farebox(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, redis_server_url: str
) -> AsyncIterator[Farebox]:
    data_dir: Path = tmp_path_factory.mktemp("data")
    async with (
        Backend(chat()).running() as backend,
        house.farebox(data_dir, module_database_url, redis_server_url, backend.url, catalog=SLOW) as running,
    ):
        yield running


@pytest.fixture
def admin(slow_farebox: Farebox) -> Admin:
    return slow_farebox.admin


async def test_every_window_is_shown_with_what_is_left_of_it(admin: Admin, slow_farebox: Farebox) -> None:
    caller = await slow_farebox.caller(tier="slow")
    assert (await slow_farebox.chat(caller)).status == 200
    await slow_farebox.settled()
    limits = await admin.read(f"{path_of(caller)}/limits")
    requests, cost, tokens = limits["windows"]
    assert (requests["name"], requests["limit"], requests["used"], requests["left"]) == ("requests/3600", 2, 1, 1)
    assert requests["resets_at"] is not None and requests["scope"] == "tier"
    assert cost["limit"] == "1.0000" and 0 < float(cost["used"]) < 0.01
    assert (tokens["models"], tokens["left"], tokens["resets_at"]) == (["large"], 1000, None)
    assert limits["concurrency"] == {"limit": 3, "used": 0} and limits["budgets"] == []


async def test_a_cleared_window_lets_calls_pass_again_and_is_on_record(admin: Admin, slow_farebox: Farebox) -> None:
    caller = await slow_farebox.caller(tier="slow")
    assert [(await slow_farebox.chat(caller)).status for _ in range(3)] == [200, 200, 429]
    cleared = await admin.made(f"{path_of(caller)}/limits/reset")
    assert cleared["windows"][0]["used"] == 0
    assert (await slow_farebox.chat(caller)).status == 200
    row, *_ = await audited(admin, action="limits.reset", target_id=caller.user.id)
    assert row["after"] == {"windows": ["requests/3600", "cost/86400", "tokens/60/*/large"]}


async def test_one_window_is_cleared_by_its_name_and_no_other(admin: Admin, slow_farebox: Farebox) -> None:
    caller = await slow_farebox.caller(tier="slow")
    assert (await slow_farebox.chat(caller)).status == 200
    await slow_farebox.settled()
    path = f"{path_of(caller)}/limits/reset"
    requests, cost, _ = (await admin.made(path, {"window": "requests/3600"}))["windows"]
    assert requests["used"] == 0 and float(cost["used"]) > 0
    assert pointers(await admin.post(path, {"window": "requests/7"})) == ["#/window"]


async def test_windows_of_the_users_keys_are_shown_and_cleared_too(admin: Admin, slow_farebox: Farebox) -> None:
    caller = await slow_farebox.caller(tier="pro")
    limits = {"windows": [{"limit": 1, "of": "requests", "per": "hour"}]}
    key = await admin.made(f"{path_of(caller)}/keys", {"name": "k", "limits": limits})
    bearer = {"authorization": f"Bearer {key['key']}"}
    assert [(await slow_farebox.chat(bearer)).status for _ in range(2)] == [200, 429]
    (window,) = (await admin.read(f"{path_of(caller)}/limits"))["windows"]
    assert (window["name"], window["scope"], window["key_id"]) == (f"key:{key['id']}/requests/3600", "key", key["id"])
    assert window["used"] == 1
    await admin.made(f"{path_of(caller)}/limits/reset", {"window": window["name"]})
    assert (await slow_farebox.chat(bearer)).status == 200


async def test_a_members_share_of_a_shared_wallet_is_a_budget(admin: Admin, slow_farebox: Farebox) -> None:
    caller = await slow_farebox.caller(tier="pro", usd="0")
    cap = {"amount": "0.50", "every": "month"}
    group = await grouped(slow_farebox, caller.user.id, name=uuid4().hex, shared=True, member_cap=cap)
    await admin.made(f"/groups/{group['id']}/credits", {"kind": "payment", "amount": "5.00", "reason": "x"})
    (budget,) = (await admin.read(f"{path_of(caller)}/limits"))["budgets"]
    assert (budget["of"], budget["limit"], budget["left"]) == ("member", "0.5000", "0.5000")
    assert budget["resets_at"] is not None


async def test_an_explanation_says_what_the_call_then_meets(admin: Admin, slow_farebox: Farebox) -> None:
    caller = await slow_farebox.caller(tier="slow", usd="0")
    told = await admin.read(f"{path_of(caller)}/explain", model="small")
    met = await slow_farebox.chat(caller)
    assert (told["can_make_request"], told["code"]) == (False, met.error["code"]) == (False, "insufficient_balance")
    assert [rule["name"] for rule in told["rules"] if rule["verdict"] == "refuse"] == ["balance"]
    await admin.made(f"{path_of(caller)}/credits", {"kind": "grant", "amount": "1.00", "reason": "x"})
    told = await admin.read(f"{path_of(caller)}/explain", model="small")
    assert (told["can_make_request"], told["code"], told["message"], told["tier"]) == (True, "", "", "slow")
    unknown = await admin.read(f"{path_of(caller)}/explain", model="nothere")
    assert (unknown["code"], unknown["model"]) == ("model_not_found", "nothere")


async def test_support_looks_at_limits_and_clears_none(slow_farebox: Farebox) -> None:
    support, caller = await logged_in(slow_farebox.admin, "support"), await slow_farebox.caller(tier="slow")
    assert (await support.get(f"{path_of(caller)}/limits")).status == 200
    assert (await support.get(f"{path_of(caller)}/explain")).status == 200
    assert (await support.post(f"{path_of(caller)}/limits/reset")).status == 403

"""Keys with limits of their own: models, windows, a budget, scopes. Both the key and its user's tier must allow a
call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.keys import ACCOUNT, CHARGES, INFERENCE
from ledger.budget import Budget
from ledger.money import parse_usd
from policies.key_limits import KeyLimits
from policies.tier import Window
from tests.backend import Backend, chat
from tests.house import Caller, Farebox


async def key_of(farebox: Farebox, owner: Caller, scopes: Sequence[str] = (), **limits: Any) -> Caller:
    """Another key of the same user, with limits."""
    full, _ = await farebox.accounts.create_key(
        name="bounded", user_id=owner.user.id, scopes=scopes, limits=KeyLimits(**limits)
    )
    return Caller(owner.user, full)


async def listed(farebox: Farebox, caller: Caller) -> list[str]:
    return [model["id"] for model in (await farebox.get("/v1/models", caller)).json()["data"]]


# Models -------------------------------------------------------------------------------------------------------------


async def test_a_key_allows_some_of_the_models_its_user_has(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    key = await key_of(farebox, ada, models=("sm*", "embed"))
    assert (await farebox.chat(key)).status == 200
    refused = await farebox.chat(key, model="large")
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert refused.error["message"] == "This key does not allow the model large."
    assert (await farebox.chat(ada, model="large")).status == 200
    assert await listed(farebox, key) == ["embed", "small"]
    assert (await farebox.get("/v1/models/large", key)).status == 404
    assert len(backend.requests) == 2


async def test_a_key_gives_no_model_that_the_tier_does_not(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free")
    key = await key_of(farebox, ada, models=("*",))
    refused = await farebox.chat(key, model="large")
    assert refused.error["code"] == "model_not_allowed" and "your plan" in refused.error["message"]


# Windows ------------------------------------------------------------------------------------------------------------


async def test_a_keys_windows_are_counted_apart(farebox: Farebox) -> None:
    ada = await farebox.caller()
    hourly = Window(2, "requests", 3600)
    one, other = await key_of(farebox, ada, windows=(hourly,)), await key_of(farebox, ada, windows=(hourly,))
    assert [(await farebox.chat(one)).status for _ in range(3)] == [200, 200, 429]
    refused = await farebox.chat(one)
    assert refused.error["code"] == "rate_limit_requests"
    assert refused.error["message"].startswith("This key has reached its limit of 2 requests per hour. Try again in ")
    assert refused.error["farebox"]["limit"].startswith("key:")
    assert [(await farebox.chat(other)).status for _ in range(2)] == [200, 200]
    assert (await farebox.chat(ada)).status == 200


async def test_an_account_read_with_a_key_shows_the_keys_windows_too(farebox: Farebox) -> None:
    ada = await farebox.caller()
    key = await key_of(farebox, ada, windows=(Window(2, "requests", 3600),))
    assert (await farebox.chat(key)).status == 200
    await farebox.settled()
    (limit,) = (await farebox.get("/v1/account", key)).json()["limits"]
    assert (limit["scope"], limit["limit"], limit["left"]) == ("key", 2, 1)
    assert (await farebox.get("/v1/account", ada)).json()["limits"] == []


async def test_a_key_that_took_anothers_place_counts_on(farebox: Farebox) -> None:
    ada = await farebox.caller()
    limits = KeyLimits(windows=(Window(3, "requests", 3600),), budget=Budget(parse_usd("0.02")))
    full, key = await farebox.accounts.create_key(name="line", user_id=ada.user.id, limits=limits)
    assert (await farebox.chat(Caller(ada.user, full), model="flat")).status == 200
    rotated = await farebox.accounts.rotate_key(key.id, timedelta(minutes=5))
    assert rotated is not None
    follower = Caller(ada.user, rotated[0])
    await farebox.settled()
    account = (await farebox.get("/v1/account", follower)).json()
    assert account["limits"][0]["left"] == 2 and account["budgets"][0]["left"] == "0.0100"
    assert (await farebox.chat(follower, model="flat")).status == 200
    await farebox.settled()
    assert (await farebox.chat(follower, model="flat")).error["code"] == "allowance_exhausted"


# Budgets ------------------------------------------------------------------------------------------------------------


async def test_a_budget_lets_exactly_as_many_calls_pass_as_it_pays(farebox: Farebox) -> None:
    ada = await farebox.caller(usd="10.00")
    key = await key_of(farebox, ada, budget=Budget(parse_usd("0.07"), "month"))
    answers = await asyncio.gather(*(farebox.chat(key, model="flat") for _ in range(60)))
    assert Counter(answer.status for answer in answers) == {200: 7, 402: 53}
    await farebox.settled()
    refused = await farebox.chat(key, model="flat")
    today = datetime.now(UTC)
    first = datetime(today.year + today.month // 12, today.month % 12 + 1, 1)
    assert (refused.status, refused.error["code"]) == (402, "allowance_exhausted")
    assert refused.error["message"] == (
        f"This key's budget of 0.0700 USD is used up. It starts anew on {first:%Y-%m-%d}."
    )
    details = refused.error["farebox"]
    assert (details["limit"], details["limit_value"], details["needed"]) == ("key_budget", "0.0700", "0.0100")
    assert details["resets_at"] == f"{first:%Y-%m-%dT00:00:00Z}"
    assert (await farebox.chat(ada, model="flat")).status == 200
    assert await farebox.spendable(ada) == parse_usd("9.92")
    assert not await farebox.broken()


async def test_a_budget_bounds_a_key_whose_calls_the_house_pays(farebox: Farebox) -> None:
    root = await farebox.caller(tier="admin", usd="0")
    key = await key_of(farebox, root, budget=Budget(parse_usd("0.02")))
    for _ in range(2):
        assert (await farebox.chat(key, model="flat")).status == 200
        await farebox.settled()
    assert (await farebox.chat(key, model="flat")).error["farebox"]["limit"] == "key_budget"
    assert (await farebox.chat(root, model="flat")).status == 200
    assert not await farebox.broken()


async def test_a_budget_once_and_for_all_promises_no_day(farebox: Farebox) -> None:
    key = await key_of(farebox, await farebox.caller(), budget=Budget(parse_usd("0.01")))
    assert (await farebox.chat(key, model="flat")).status == 200
    await farebox.settled()
    refused = await farebox.chat(key, model="flat")
    assert refused.error["message"] == "This key's budget of 0.0100 USD is used up."
    assert "resets_at" not in refused.error["farebox"]


async def test_a_wallet_poorer_than_the_budget_is_what_is_told(farebox: Farebox) -> None:
    ada = await farebox.caller(usd="0.01")
    key = await key_of(farebox, ada, budget=Budget(parse_usd("5.00"), "month"))
    assert (await farebox.chat(key, model="flat")).status == 200
    await farebox.settled()
    assert (await farebox.chat(key, model="flat")).error["code"] == "insufficient_balance"


async def test_a_small_budget_bounds_the_answer_and_what_is_left_of_it_is_shown(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller(usd="10.00")
    key = await key_of(farebox, ada, budget=Budget(parse_usd("0.0005")))
    assert (await farebox.chat(key, model="large")).status == 200
    told = backend.requests[-1].json["max_tokens"]
    assert 16 <= told <= 50  # at 0.00001 USD a token
    await farebox.settled()
    (budget,) = (await farebox.get("/v1/account", key)).json()["budgets"]
    cost = 11 * 2500 + 3 * 10_000
    assert (budget["of"], budget["limit"]) == ("key", "0.0005")
    assert parse_usd(budget["left"]) == parse_usd("0.0005") - cost
    assert (await farebox.get("/v1/account", ada)).json()["budgets"] == []


async def test_an_answer_is_cut_where_the_budget_ends(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(usd="10.00")
    key = await key_of(farebox, ada, budget=Budget(parse_usd("0.0006")))
    backend.then(chat([f"word{index} " for index in range(400)], usage={}, delay_s=0.001))
    answer = await farebox.chat(key, model="large", stream=True)
    assert b'"finish_reason":"length"' in answer.body
    assert b"The answer stops here: this key's budget is used up." in answer.body
    charge = await farebox.charge()
    assert charge["outcome"] == "cut_by_balance" and charge["amount"] <= parse_usd("0.0006")
    assert not await farebox.broken()


# Scopes -------------------------------------------------------------------------------------------------------------


async def test_a_key_may_do_what_it_was_made_for(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    calls = await key_of(farebox, ada, [INFERENCE])
    reads = await key_of(farebox, ada, [ACCOUNT])
    charges = await key_of(farebox, ada, [CHARGES])
    assert (await farebox.chat(calls)).status == 200
    assert (await farebox.get("/v1/account", reads)).status == 200
    assert await listed(farebox, calls) == await listed(farebox, reads)
    refused = [
        await farebox.chat(reads),
        await farebox.chat(charges),
        await farebox.get("/v1/account", calls),
        await farebox.get("/v1/account", charges),
        await farebox.get("/v1/models", charges),
    ]
    for answer in refused:
        assert (answer.status, answer.error["code"]) == (403, "feature_not_allowed")
        assert answer.error["message"].startswith("This key does not allow ")
    assert len(backend.requests) == 1


async def test_a_changed_limit_bites_at_once(farebox: Farebox) -> None:
    ada = await farebox.caller()
    full, key = await farebox.accounts.create_key(name="changing", user_id=ada.user.id)
    caller = Caller(ada.user, full)
    assert (await farebox.chat(caller, model="large")).status == 200
    await farebox.accounts.change_key(key.id, limits=KeyLimits(models=("small",)))

    async def bites() -> bool:
        return (await farebox.chat(caller, model="large")).status == 403

    async with asyncio.timeout(30):
        while not await bites():
            await asyncio.sleep(0.02)

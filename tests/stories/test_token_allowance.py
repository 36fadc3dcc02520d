"""An allowance counted in tokens: it pays first and to the last token, then money does, then nobody; and it comes
back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.wallet import token_wallet_id
from tests import house
from tests.backend import Backend, chat, json_answer
from tests.backend import stream as script
from tests.house import Answer, Caller, Farebox
from tests.streams import DONE, delta, event, events, stream

TIERS = """
[[models]]
id = "painter"
upstream = "main"
kind = "image"
prices = { images = "0.01" }

[[tiers]]
name = "tester"
title = "Tester"
allowance = { tokens = 1000, every = "month", zone = "Europe/Berlin" }
windows = [{ limit = "5.00", of = "cost", per = "day" }]
upgrade_to = "pro"

[[tiers]]
name = "none"
title = "Free"
allowance = { tokens = 0 }
upgrade_to = "tester"
"""
WALLET = "SELECT spendable, held, currency FROM wallets WHERE id = :id"
CHARGES = "SELECT currency, amount, overrun, price_version, outcome FROM charges WHERE user_id = :user ORDER BY at"


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=TIERS) as running:
        yield running


def says(prompt: int, completion: int) -> Any:
    """A backend that reports this."""
    total = prompt + completion
    return chat(usage={"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total})


async def tokens_of(farebox: Farebox, caller: Caller) -> tuple[int, int]:
    """What the caller's wallet of tokens holds, and how much of it is set aside."""
    await farebox.settled()
    (row,) = await farebox.rows(WALLET, id=token_wallet_id(caller.user.wallet_id))
    assert row["currency"] == "TOK"
    return row["spendable"], row["held"]


async def test_a_thousand_tokens_are_used_up_exactly_and_then_nothing_passes(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    left = []
    for prompt, completion in ((400, 300), (150, 120), (20, 10)):
        backend.then(says(prompt, completion))
        answer = await farebox.chat(ada, max_tokens=3)
        assert answer.status == 200, answer.body
        assert answer.headers["x-farebox-cost"] == "0.0000" and "x-farebox-balance" not in answer.headers
        left.append(int(answer.headers["x-farebox-tokens-left"]))
        await farebox.settled()
    assert left == [300, 30, 0]
    assert await tokens_of(farebox, ada) == (0, 0)
    refused = await farebox.chat(ada, max_tokens=3)
    assert_out_of_tokens(refused)
    assert refused.error["message"].startswith("Your monthly allowance of 1000 tokens is used up. It renews on ")
    charges = await farebox.rows(CHARGES, user=ada.user.id)
    assert [(row["currency"], row["amount"], row["price_version"]) for row in charges] == [
        ("TOK", 700, -1),
        ("TOK", 270, -1),
        ("TOK", 30, -1),
    ]
    assert len(backend.requests) == 3
    assert not await farebox.broken()


def assert_out_of_tokens(refused: Answer) -> None:
    details = refused.error["farebox"]
    assert (refused.status, refused.error["code"]) == (402, "allowance_exhausted")
    assert (details["limit"], details["limit_value"], details["upgrade_tier"]) == ("allowance", 1000, "pro")
    resets_at = datetime.strptime(details["resets_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert resets_at > datetime.now(UTC)
    assert f"It renews on {resets_at:%Y-%m-%d}." in refused.error["message"]
    assert house.tokenless(refused.error["message"]).endswith(f" Upgrade: {house.PERSONAL}")


async def test_of_many_calls_at_once_none_takes_a_token_that_is_not_there(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    answers = await asyncio.gather(*(farebox.chat(ada, max_tokens=20) for _ in range(100)))
    counted = Counter(answer.status for answer in answers)
    assert set(counted) == {200, 402} and counted[200] >= 20
    charges = await farebox.charges(ada.user.id)
    assert sum(charge["amount"] for charge in charges) == 14 * counted[200] <= 1000
    spendable, held = await tokens_of(farebox, ada)
    assert (spendable, held) == (1000 - 14 * counted[200], 0)
    assert not any(charge["overrun"] for charge in charges)
    wallets = await farebox.rows("SELECT id FROM wallets WHERE currency = 'TOK'")
    assert len(wallets) == 1
    assert not await farebox.broken()


async def test_what_is_used_up_comes_back_with_the_next_period(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    backend.then(says(900, 90))
    assert (await farebox.chat(ada, max_tokens=3)).status == 200
    await farebox.settled()
    assert_out_of_tokens(await farebox.chat(ada, max_tokens=3))
    wallet = token_wallet_id(ada.user.wallet_id)
    async with farebox.engine.begin() as connection:
        # As it stands a month later: the grant is of another period, and ended.
        await connection.exec_driver_sql(
            f"UPDATE grants SET source = 'plan:tester:last-month', expires_at = now() WHERE wallet_id = '{wallet}'"
        )
        await connection.exec_driver_sql(f"UPDATE wallets SET due_at = now() WHERE id = '{wallet}'")
    answer = await farebox.chat(ada, max_tokens=3)
    assert (answer.status, answer.headers["x-farebox-tokens-left"]) == (200, str(1000 - 14))
    assert not await farebox.broken()


async def test_a_stream_says_in_its_usage_what_is_left(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    async with stream(farebox, ada, stream_options={"include_usage": True}) as reply:
        body = await reply.read()
    (last,) = [each for each in events(body) if isinstance(each, dict) and each.get("usage")]
    assert (last["usage"]["cost"], last["usage"]["tokens_left"]) == ("0.0000", 986)
    assert "balance" not in last["usage"]


async def test_an_answer_is_cut_where_the_tokens_end(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    backend.then(says(500, 400))
    assert (await farebox.chat(ada, max_tokens=3)).status == 200
    await farebox.settled()
    words = [delta(f"word{index % 10} and ") for index in range(400)]
    tail = event({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1200, "total_tokens": 1208}})
    backend.then(script([*words, tail, DONE]))
    async with stream(farebox, ada) as reply:
        *_, length, refusal, done = events(await reply.read())
    assert length["choices"][0]["finish_reason"] == "length" and done == "[DONE]"
    assert refusal["error"]["code"] == "allowance_exhausted"
    assert "your tokens are used up" in refusal["error"]["message"]
    charges = await farebox.charges(ada.user.id)
    assert (charges[-1]["outcome"], charges[-1]["overrun"]) == ("cut_by_balance", 0)
    assert sum(charge["amount"] for charge in charges) <= 1000
    assert not await farebox.broken()


async def test_the_backend_is_told_how_much_the_tokens_cover(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    backend.then(says(500, 400))
    assert (await farebox.chat(ada, max_tokens=3)).status == 200
    await farebox.settled()
    assert (await farebox.chat(ada)).status == 200
    assert 16 <= backend.requests[-1].json["max_tokens"] < 100


async def test_money_pays_at_the_real_price_once_the_tokens_are_gone(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(tier="tester", usd="1.00")
    backend.then(says(980, 15))
    assert (await farebox.chat(ada, max_tokens=3)).headers["x-farebox-tokens-left"] == "5"
    await farebox.settled()
    answer = await farebox.chat(ada, max_tokens=3)
    assert answer.status == 200 and "x-farebox-tokens-left" not in answer.headers
    assert (answer.headers["x-farebox-cost"], answer.headers["x-farebox-balance"]) == ("0.00000345", "0.99999655")
    first, second = await farebox.charges(ada.user.id)
    assert (first["currency"], first["amount"]) == ("TOK", 995)
    assert (second["currency"], second["amount"]) == ("USD", 11 * 150 + 3 * 600)
    assert await tokens_of(farebox, ada) == (5, 0)
    account = (await farebox.get("/v1/account", ada)).json()
    # The window of money counted the second call alone.
    assert account["limits"][0]["left"] == "4.99999655"
    assert not await farebox.broken()


async def test_money_that_does_not_suffice_either_is_told_in_tokens(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(tier="tester", usd="0.000001")
    backend.then(says(980, 15))
    await farebox.chat(ada, max_tokens=3)
    await farebox.settled()
    refused = await farebox.chat(ada, max_tokens=3)
    assert_out_of_tokens(refused)
    assert "has 5 left, too few for this request" in refused.error["message"]
    assert refused.error["farebox"]["tokens_left"] == 5
    before = (await farebox.get("/v1/account", ada)).json()
    assert (before["limits"][0]["left"], before["concurrency"]["used"]) == ("5.0000", 0)
    assert not await farebox.broken()


async def test_a_plan_without_tokens_gives_nothing_but_a_hint_until_money_was_bought(farebox: Farebox) -> None:
    bob = await farebox.caller(tier="none", usd="0")
    refused = await farebox.chat(bob)
    assert (refused.status, refused.error["code"]) == (402, "allowance_exhausted")
    assert house.tokenless(refused.error["message"]) == (
        f"Your plan (Free) includes no tokens. Upgrade: {house.PERSONAL}"
    )
    assert refused.error["farebox"]["upgrade_tier"] == "tester"
    await farebox.bank.credit(bob.user.wallet_id, 10**9, "paid", source="bought", funding="cash:test")
    assert (await farebox.chat(bob)).headers["x-farebox-balance"] == "0.99999655"
    assert not await farebox.rows("SELECT id FROM wallets WHERE currency = 'TOK'")


async def test_pictures_are_not_paid_with_tokens(farebox: Farebox, backend: Backend) -> None:
    ada, bob = await farebox.caller(tier="tester", usd="0"), await farebox.caller(tier="tester", usd="1.00", name="Bob")
    body = {"model": "painter", "prompt": "a house"}
    refused = await farebox.post("/v1/images/generations", body, ada)
    assert (refused.status, refused.error["code"]) == (402, "insufficient_balance")
    backend.then(json_answer({"created": 1, "data": [{"b64_json": "AA=="}]}))
    painted = await farebox.post("/v1/images/generations", body, bob)
    assert (painted.status, painted.headers["x-farebox-cost"]) == (200, "0.0100")
    assert not await farebox.broken()


async def test_an_account_shows_its_tokens_in_tokens(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="tester", usd="1.00")
    fresh = (await farebox.get("/v1/account", ada)).json()
    assert (fresh["allowance"]["unit"], fresh["allowance"]["amount"], fresh["allowance"]["left"]) == (
        "tokens",
        1000,
        1000,
    )
    assert (await farebox.chat(ada)).status == 200
    await farebox.settled()
    account = (await farebox.get("/v1/account", ada)).json()
    allowance = account["allowance"]
    assert (allowance["left"], allowance["every"], account["balance"]) == (986, "month", "1.0000")
    assert datetime.strptime(allowance["resets_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) > datetime.now(UTC)


async def test_tokens_of_a_tier_are_spent_in_that_tier_only(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    assert (await farebox.chat(ada)).headers["x-farebox-tokens-left"] == "986"
    await farebox.settled()
    await farebox.accounts.set_tier(ada.user.id, "none")
    await house.until(lambda: _refused(farebox, ada))
    await farebox.settled()
    before, _ = await tokens_of(farebox, ada)
    await farebox.accounts.set_tier(ada.user.id, "tester")
    await house.until(lambda: _passes(farebox, ada))
    # What was left is there again; what was used of this period is not given twice.
    assert (await tokens_of(farebox, ada))[0] == before - 14
    assert not await farebox.broken()


async def _refused(farebox: Farebox, caller: Caller) -> bool:
    return (await farebox.chat(caller)).status == 402


async def _passes(farebox: Farebox, caller: Caller) -> bool:
    return (await farebox.chat(caller)).status == 200

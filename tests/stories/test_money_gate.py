"""The gate of the money: what is held, what is sent upstream when little is left, and k calls for money for k."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.money import NANO, parse_usd
from tests import house
from tests.backend import Backend, Cut, Gate, chat, plain
from tests.house import Farebox

CATALOG = """
[[models]]
id = "hidden"
upstream = "main"
upstream_model = "real-name"
prices = { input = "1.00", output = "1000.00" }

[[models]]
id = "o9"
upstream = "main"
prices = { input = "1.00", output = "1000.00" }

[[tiers]]
name = "capped"
max_output = 200

[[tiers]]
name = "double"
markup = "2"
"""
WALLETS = "SELECT spendable, held FROM wallets WHERE id = :wallet"


@pytest.fixture
async def gate(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=CATALOG) as farebox:
        yield farebox


# Exactly k ----------------------------------------------------------------------------------------------------------


async def test_of_1000_calls_at_once_exactly_as_many_pass_as_the_wallet_can_pay(farebox: Farebox) -> None:
    ada = await farebox.caller(usd="1.37")
    answers = await asyncio.gather(*(farebox.chat(ada, model="flat") for _ in range(1000)))
    assert Counter(answer.status for answer in answers) == {200: 137, 402: 863}
    assert {answer.error["code"] for answer in answers if answer.status == 402} == {"insufficient_balance"}
    assert await farebox.spendable(ada) == 0
    charges = await farebox.charges(ada.user.id)
    assert len(charges) == 137 and sum(charge["amount"] for charge in charges) == parse_usd("1.37")
    assert not await farebox.broken()


async def test_of_64_first_calls_of_a_new_user_exactly_as_many_pass_as_its_first_allowance_pays(
    farebox: Farebox,
) -> None:
    service = await farebox.service()
    grace = {"authorization": f"Bearer {service}", "x-openwebui-user-id": "u-1", "x-openwebui-user-name": "Grace"}
    answers = await asyncio.gather(*(farebox.chat(grace, model="flat") for _ in range(64)))
    assert Counter(answer.status for answer in answers) == {200: 10, 402: 54}
    assert {answer.error["code"] for answer in answers if answer.status == 402} == {"allowance_exhausted"}
    await farebox.settled()
    (user,) = await farebox.rows("SELECT id, wallet_id, tier FROM users")
    assert user["tier"] == "free"
    assert len(await farebox.rows("SELECT id FROM wallets")) == 1
    (grant,) = await farebox.rows("SELECT amount, remaining, kind FROM grants")
    assert (grant["amount"], grant["remaining"], grant["kind"]) == (parse_usd("0.10"), 0, "plan")
    assert len(await farebox.charges(user["id"])) == 10
    assert not await farebox.broken()


async def test_many_wallets_at_once_do_not_mix(farebox: Farebox) -> None:
    people = [await farebox.caller(usd=f"0.0{count}", name=f"P{count}") for count in range(1, 9)]
    calls = [farebox.chat(caller, model="flat") for caller in people for _ in range(12)]
    answers = await asyncio.gather(*calls)
    passed = [sum(answer.status == 200 for answer in answers[at : at + 12]) for at in range(0, len(answers), 12)]
    assert passed == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [await farebox.spendable(caller) for caller in people] == [0] * 8
    assert not await farebox.broken()


# What is held -------------------------------------------------------------------------------------------------------


async def test_while_a_call_runs_its_money_is_held_and_afterwards_only_its_cost_is_gone(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller(usd="1.00")
    opened = asyncio.Event()
    backend.then(lambda seen: [Gate(opened), *chat()(seen)])
    call = asyncio.create_task(farebox.chat(ada, max_tokens=1000))
    await backend.arrived()
    (wallet,) = await farebox.rows(WALLETS, wallet=ada.user.wallet_id)
    held = wallet["held"]
    assert 1000 * 600 <= held <= 1000 * 600 + 50 * 150 and wallet["spendable"] == NANO
    opened.set()
    assert (await call).headers["x-farebox-balance"] == "0.99999655"
    await farebox.settled()
    (wallet,) = await farebox.rows(WALLETS, wallet=ada.user.wallet_id)
    assert (wallet["spendable"], wallet["held"]) == (NANO - 11 * 150 - 3 * 600, 0)
    assert not await farebox.broken()


async def test_a_failed_backend_gives_the_hold_back_without_a_charge(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(usd="1.00")
    for answer in (plain(b"{}", status=503), [Cut()]):
        backend.then(answer)
        assert (await farebox.chat(ada)).status == 502
    assert not await farebox.charges()
    assert await farebox.spendable(ada) == NANO
    assert not await farebox.broken()


async def test_the_tiers_factor_is_in_the_charge_and_in_the_hold(gate: Farebox) -> None:
    bob = await gate.caller(tier="double", usd="1.00")
    assert (await gate.chat(bob)).status == 200
    charge = await gate.charge()
    assert (charge["amount"], charge["factor_ppm"]) == (2 * (11 * 150 + 3 * 600), 2_000_000)
    assert not await gate.broken()


async def test_an_unlimited_tier_needs_no_money_and_every_call_is_recorded(farebox: Farebox) -> None:
    root = await farebox.caller(tier="admin", usd="0")
    assert (await farebox.chat(root, model="large", max_tokens=100_000)).status == 200
    charge = await farebox.charge()
    assert charge["amount"] == 11 * 2500 + 3 * 10_000
    assert await farebox.spendable(root) == 0
    assert not await farebox.broken()


# What the backend is told -------------------------------------------------------------------------------------------


async def sent(farebox: Farebox, backend: Backend, usd: str, **body: Any) -> dict[str, Any]:
    """The body the backend got for a caller with so much money."""
    caller = await farebox.caller(usd=usd, name="Someone", **{key: body.pop(key) for key in ["tier"] if key in body})
    answer = await farebox.chat(caller, **body)
    assert answer.status == 200, answer.body
    return dict(backend.requests[-1].json)


async def test_a_wallet_that_covers_what_is_asked_changes_nothing_in_the_request(
    gate: Farebox, backend: Backend
) -> None:
    assert (await sent(gate, backend, "10.00", model="large", max_tokens=100))["max_tokens"] == 100
    assert "max_tokens" not in await sent(gate, backend, "10.00", model="large")


async def test_a_wallet_that_covers_less_tells_the_backend_how_much(gate: Farebox, backend: Backend) -> None:
    # 0.0505 USD at 0.001 USD a token of output: fifty tokens beside the few of the question.
    asked = await sent(gate, backend, "0.0505", model="hidden", max_tokens=4000)
    assert (asked["max_tokens"], asked["model"]) == (50, "real-name")
    untold = await sent(gate, backend, "0.0505", model="hidden")
    assert untold["max_tokens"] == 50
    newer = await sent(gate, backend, "0.0505", model="hidden", max_completion_tokens=4000)
    assert newer["max_completion_tokens"] == 50 and "max_tokens" not in newer
    thinking = await sent(gate, backend, "0.0505", model="o9")
    assert thinking["max_completion_tokens"] == 50 and "max_tokens" not in thinking
    several = await sent(gate, backend, "0.1005", model="hidden", max_tokens=4000, n=2)
    assert several["max_tokens"] == 50
    assert not await gate.broken()


async def test_a_tiers_bound_is_told_where_the_caller_names_none(gate: Farebox, backend: Backend) -> None:
    assert (await sent(gate, backend, "10.00", tier="capped"))["max_tokens"] == 200
    assert (await sent(gate, backend, "10.00", tier="capped", max_tokens=20))["max_tokens"] == 20


async def test_a_small_wallet_still_gets_a_short_answer_and_an_empty_one_a_402(gate: Farebox) -> None:
    some = await gate.caller(usd="0.0200")
    assert (await gate.chat(some, model="hidden", max_tokens=4000)).status == 200
    none = await gate.caller(usd="0.0100", name="Bob")
    refused = await gate.chat(none, model="hidden", max_tokens=4000)
    details = refused.error["farebox"]
    assert (refused.status, details["available"]) == (402, "0.0100")
    assert details["needed"].startswith("0.0160")  # sixteen tokens are the least an answer may be
    short = await gate.chat(none, model="hidden", max_tokens=5)
    assert short.status == 200
    assert not await gate.broken()


async def test_an_answer_is_cut_where_the_money_ends_and_what_was_held_is_charged(
    gate: Farebox, backend: Backend
) -> None:
    ada = await gate.caller(usd="0.0305")
    backend.then(chat([f"word{index} " for index in range(400)], usage={}, delay_s=0.001))
    answer = await gate.chat(ada, model="hidden", stream=True)
    *_, length, refusal, done = answer.body.split(b"\n\n")[:-1]
    assert done == b"data: [DONE]"
    assert b'"finish_reason":"length"' in length
    assert b'"code":"insufficient_balance"' in refusal and f"Top up: {house.PERSONAL}".encode() in refusal
    assert 5 <= answer.body.count(b"word") <= 31
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)
    charge = await gate.charge()
    assert charge["outcome"] == "cut_by_balance" and charge["amount"] <= parse_usd("0.0305")
    assert await gate.spendable(ada) == parse_usd("0.0305") - charge["amount"]
    assert not await gate.broken()


# The allowance ------------------------------------------------------------------------------------------------------


async def test_an_allowance_comes_with_the_first_call_and_is_used_before_paid_money(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free", usd="0.02")
    account = (await farebox.get("/v1/account", ada)).json()
    assert account["balance"] == "0.1200" and account["allowance"]["left"] == "0.1000"
    statuses = [(await farebox.chat(ada, model="flat")).status for _ in range(13)]
    assert statuses == [200] * 12 + [402]
    await farebox.settled()
    grants = await farebox.rows("SELECT kind, remaining FROM grants WHERE wallet_id = :w", w=ada.user.wallet_id)
    assert {(grant["kind"], grant["remaining"]) for grant in grants} == {("plan", 0), ("paid", 0)}
    assert not await farebox.broken()


async def test_an_exhausted_allowance_names_the_day_it_renews(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="free", usd="0")
    for _ in range(10):
        assert (await farebox.chat(ada, model="flat")).status == 200
    refused = await farebox.chat(ada, model="flat")
    today = datetime.now(UTC)
    first = datetime(today.year + today.month // 12, today.month % 12 + 1, 1)
    details = refused.error["farebox"]
    assert (refused.status, details["limit"], details["resets_at"]) == (402, "allowance", f"{first:%Y-%m-%dT00:00:00Z}")
    assert house.tokenless(refused.error["message"]) == (
        f"Your monthly allowance is used up. It renews on {first:%Y-%m-%d}. Upgrade: {house.PERSONAL}"
    )


async def test_holds_of_slow_calls_refuse_the_next_until_they_are_done(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(usd="0.01")
    refused = asyncio.Event()
    backend.then(lambda seen: [Gate(refused), *chat()(seen)])
    call = asyncio.create_task(farebox.chat(ada, model="flat"))
    await backend.arrived()
    assert (await farebox.chat(ada, model="flat")).error["farebox"]["available"] == "0.0000"
    refused.set()
    assert (await call).status == 200
    assert await farebox.spendable(ada) == 0

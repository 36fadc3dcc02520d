"""Groups over the wire: a wallet its members share, with a cap for each; credits of a group; a tier by group."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ledger.budget import Budget
from ledger.money import NANO, parse_usd
from policies.group import Group
from policies.tier import Allowance
from tests import house
from tests.backend import Backend
from tests.house import Caller, Farebox, until

TIERS = """
[[tiers]]
name = "tester"
allowance = { tokens = 1000, every = "month" }

[[tiers]]
name = "team"
models = ["flat"]
"""


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=TIERS) as running:
        yield running


async def group_of(farebox: Farebox, *members: Caller, usd: str = "0", **told: Any) -> Group:
    """A group with these members and so much paid into its wallet, known to the gateway."""
    kept = await farebox.accounts.create_group(name=told.pop("name", "Team"), **told)
    if amount := parse_usd(usd):
        await farebox.bank.credit(kept.group.wallet_id, amount, "paid", source="test", funding="cash:test")
    for member in members:
        await farebox.accounts.add_member(kept.group.id, member.user.id)
    for member in members:
        await until(lambda member=member: _belongs(farebox, member, kept.group))  # type: ignore[misc]
    return kept.group


async def _belongs(farebox: Farebox, caller: Caller, group: Group) -> bool:
    """Whether the gateway knows, and the group's credits are there (a few seconds later, where it was asked before)."""
    account = (await farebox.get("/v1/account", caller)).json()
    if account["group"] is None or account["group"]["id"] != str(group.id):
        return False
    given = account["credits"] or account["allowance"]
    return group.allowance is None or bool(given["left"] == given["amount"])


async def test_whoever_is_seen_for_the_first_time_gains_nothing_by_others_groups(farebox: Farebox) -> None:
    await group_of(farebox, await farebox.caller(tier="free"), usd="7.00", tier="pro", shared=True)
    service = await farebox.service()
    headers = {"authorization": f"Bearer {service}", "x-openwebui-user-id": "stranger"}
    assert (await farebox.chat(headers, model="large")).error["code"] == "model_not_allowed"
    account = (await farebox.get("/v1/account", headers)).json()
    assert (account["tier"], account["group"]) == ("free", None)


async def wallet(farebox: Farebox, wallet_id: UUID) -> int:
    await farebox.settled()
    (row,) = await farebox.rows("SELECT spendable FROM wallets WHERE id = :id", id=wallet_id)
    return int(row["spendable"])


async def test_members_of_a_shared_wallet_spend_the_same_money(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(usd="1.00"), await farebox.caller(usd="0", name="Bob")
    team = await group_of(farebox, ada, bob, usd="0.05", shared=True)
    both = [*(ada for _ in range(20)), *(bob for _ in range(20))]
    answers = await asyncio.gather(*(farebox.chat(each, model="flat") for each in both))
    assert Counter(answer.status for answer in answers) == {200: 5, 402: 35}
    assert await wallet(farebox, team.wallet_id) == 0
    assert await farebox.spendable(ada) == NANO  # her own money is not the group's
    charges = await farebox.charges()
    assert {charge["wallet_id"] for charge in charges} == {team.wallet_id}
    account = (await farebox.get("/v1/account", bob)).json()
    assert (account["balance"], account["group"]["name"], account["group"]["shared"]) == ("0.0000", "Team", True)
    assert not await farebox.broken()


async def test_a_members_cap_is_exact_under_many_calls_at_once(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(usd="0"), await farebox.caller(usd="0", name="Bob")
    cap = Budget(parse_usd("0.08"), "month")
    team = await group_of(farebox, ada, bob, usd="1.00", shared=True, member_cap=cap)
    calls = [farebox.chat(each, model="flat") for each in (ada, bob) for _ in range(50)]
    answers = await asyncio.gather(*calls)
    for half in (answers[:50], answers[50:]):
        assert Counter(answer.status for answer in half) == {200: 8, 402: 42}
        refused = next(answer for answer in half if answer.status == 402)
        assert refused.error["code"] == "allowance_exhausted"
    await farebox.settled()
    refused = await farebox.chat(ada, model="flat")
    assert refused.error["message"].startswith("Your group's budget for each member of 0.0800 USD is used up. It ")
    assert refused.error["farebox"]["limit"] == "member_budget"
    (budget,) = (await farebox.get("/v1/account", ada)).json()["budgets"]
    assert (budget["of"], budget["limit"], budget["left"]) == ("member", "0.0800", "0.0000")
    assert await wallet(farebox, team.wallet_id) == parse_usd("0.84")
    assert not await farebox.broken()


async def test_a_shared_wallet_gets_its_allowance_once_however_many_share_it(farebox: Farebox) -> None:
    people = [await farebox.caller(usd="0", name=name) for name in ("Ada", "Bob", "Cem")]
    team = await group_of(farebox, *people, shared=True, allowance=Allowance(parse_usd("0.06")))
    answers = await asyncio.gather(*(farebox.chat(each, model="flat") for each in people for _ in range(5)))
    assert Counter(answer.status for answer in answers) == {200: 6, 402: 9}
    refused = await farebox.chat(people[0], model="flat")
    assert refused.error["code"] == "allowance_exhausted" and "It renews on" in refused.error["message"]
    assert await wallet(farebox, team.wallet_id) == 0
    assert not await farebox.broken()


async def test_credits_of_a_group_stand_in_place_of_the_tiers_allowance(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(tier="free", usd="0"), await farebox.caller(tier="free", usd="0", name="Bob")
    await group_of(farebox, ada, bob, allowance=Allowance(parse_usd("0.03"), every="day"))
    for caller in (ada, bob):
        statuses = [(await farebox.chat(caller, model="flat")).status for _ in range(4)]
        assert statuses == [200, 200, 200, 402]
    account = (await farebox.get("/v1/account", ada)).json()
    assert (account["allowance"]["amount"], account["allowance"]["every"]) == ("0.0300", "day")
    refused = await farebox.chat(ada, model="flat")
    assert refused.error["message"].startswith("Your daily allowance is used up. It renews on ")
    assert not await farebox.broken()


async def test_who_spends_a_shared_wallet_has_no_tokens_beside_it(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    assert "x-farebox-tokens-left" in (await farebox.chat(ada)).headers
    await farebox.settled()
    await group_of(farebox, ada, usd="1.00", shared=True)
    assert (await farebox.chat(ada)).headers["x-farebox-balance"] == "0.99999655"
    account = (await farebox.get("/v1/account", ada)).json()
    assert account["allowance"] is None
    assert not await farebox.broken()


async def test_tokens_of_the_tier_are_spent_before_the_credits_of_a_group(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="tester", usd="0")
    await group_of(farebox, ada, allowance=Allowance(parse_usd("0.05")))
    assert (await farebox.chat(ada)).headers["x-farebox-tokens-left"] == "986"
    account = (await farebox.get("/v1/account", ada)).json()
    assert (account["allowance"]["unit"], account["credits"]["amount"]) == ("tokens", "0.0500")
    assert not await farebox.broken()


async def test_a_group_gives_its_tier_to_members_whose_own_is_not_pinned(farebox: Farebox) -> None:
    service = {"authorization": f"Bearer {await farebox.service()}", "x-openwebui-user-id": "u-1"}
    assert (await farebox.chat(service)).status == 200  # of the default tier, which has `small`
    await farebox.settled()
    (row,) = await farebox.rows("SELECT id FROM users")
    pinned = await farebox.caller(name="Pia")
    kept = await farebox.accounts.create_group(name="Team", tier="team")
    await farebox.accounts.add_member(kept.group.id, row["id"])
    await farebox.accounts.add_member(kept.group.id, pinned.user.id)

    async def has_the_tier() -> bool:
        return (await farebox.chat(service)).status == 403

    await until(has_the_tier)
    assert (await farebox.chat(pinned)).status == 200
    await farebox.accounts.remove_member(kept.group.id, row["id"])

    async def has_its_own_again() -> bool:
        return (await farebox.chat(service)).status == 200

    await until(has_its_own_again)
    assert not await farebox.broken()


async def test_who_leaves_a_group_spends_its_own_money_again(farebox: Farebox) -> None:
    ada = await farebox.caller(usd="1.00")
    team = await group_of(farebox, ada, usd="0.50", shared=True)
    assert (await farebox.chat(ada, model="flat")).headers["x-farebox-balance"] == "0.4900"
    await farebox.accounts.remove_member(team.id, ada.user.id)

    async def on_her_own() -> bool:
        return (await farebox.get("/v1/account", ada)).json()["group"] is None

    await until(on_her_own)
    assert (await farebox.chat(ada, model="flat")).headers["x-farebox-balance"] == "0.9900"
    assert await wallet(farebox, team.wallet_id) == parse_usd("0.49")
    assert not await farebox.broken()

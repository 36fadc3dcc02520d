"""A tier planned for an instant: from that instant on every call has it, though nobody has written it down yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.money import parse_usd
from tests import house
from tests.backend import Backend, Gate, chat
from tests.house import Farebox, until

TIERS = """
[[tiers]]
name = "narrow"
models = ["flat"]
allowance = { usd = "0.02", every = "month" }
"""


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=TIERS) as running:
        yield running


def in_s(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def tier_of(farebox: Farebox, caller: house.Caller) -> str:
    return str((await farebox.get("/v1/account", caller)).json()["tier"])


async def test_a_planned_tier_bites_at_its_instant_without_any_job(
    farebox: Farebox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: object) -> int:
        return 0

    # The job that writes planned changes down does nothing here.
    monkeypatch.setattr("accounts.due_tiers.DueTiers.settle", nothing)
    ada = await farebox.caller(usd="0.05")
    await farebox.accounts.set_tier(ada.user.id, "narrow", at=in_s(4))
    assert (await farebox.chat(ada, model="small")).status == 200
    assert await tier_of(farebox, ada) == "paid"

    async def bites() -> bool:
        return (await farebox.chat(ada, model="small")).status == 403

    await until(bites)
    assert await tier_of(farebox, ada) == "narrow"
    account = (await farebox.get("/v1/account", ada)).json()
    assert account["allowance"]["left"] == "0.0200"  # and its money came with it
    (row,) = await farebox.rows("SELECT tier, next_tier FROM users WHERE id = :id", id=ada.user.id)
    assert (row["tier"], row["next_tier"]) == ("narrow", None)  # its first call wrote it down
    assert not await farebox.broken()


async def test_a_tier_that_ends_takes_its_unused_allowance_along(farebox: Farebox) -> None:
    ada = await farebox.caller(tier="narrow", usd="0.05")
    assert (await farebox.chat(ada, model="flat")).headers["x-farebox-balance"] == "0.0600"
    await farebox.settled()
    await farebox.accounts.set_tier(ada.user.id, "paid", at=in_s(3))

    async def has_it() -> bool:
        return await tier_of(farebox, ada) == "paid"

    await until(has_it)
    assert (await farebox.chat(ada, model="small")).headers["x-farebox-balance"] == "0.04999655"
    assert await farebox.spendable(ada) == parse_usd("0.05") - 3450
    assert not await farebox.broken()


async def test_a_call_that_runs_keeps_the_tier_it_began_with(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(usd="0.05")
    opened = asyncio.Event()
    backend.then(lambda seen: [Gate(opened), *chat()(seen)])
    running = asyncio.create_task(farebox.chat(ada, model="small"))
    await backend.arrived()
    await farebox.accounts.set_tier(ada.user.id, "narrow", at=in_s(3))

    async def bites() -> bool:
        return (await farebox.chat(ada, model="small")).status == 403

    await until(bites)
    opened.set()
    answer = await running
    assert answer.status == 200
    charges = {str(charge["request_id"]): charge for charge in await farebox.charges(ada.user.id)}
    assert charges[answer.headers["x-request-id"]]["tier"] == "paid"
    assert not await farebox.broken()


async def test_a_planned_tier_can_be_taken_back(farebox: Farebox) -> None:
    ada = await farebox.caller()
    await farebox.accounts.set_tier(ada.user.id, "narrow", at=in_s(3))
    await farebox.accounts.set_tier(ada.user.id, "paid")
    await asyncio.sleep(3.2)
    assert (await farebox.chat(ada, model="small")).status == 200

"""Two identities of one person, merged: whoever is named, one account pays and is bound."""

from __future__ import annotations

import asyncio
from uuid import UUID

from accounts.users import User
from ledger.money import NANO, parse_usd
from tests.backend import Backend, Gate, chat
from tests.house import Farebox, until


async def sighted(farebox: Farebox, service: str, subject: str) -> tuple[dict[str, str], User]:
    """A user Open WebUI names, after a first call."""
    headers = {"authorization": f"Bearer {service}", "x-openwebui-user-id": subject}
    assert (await farebox.chat(headers)).status == 200
    await farebox.settled()
    (row,) = await farebox.rows("SELECT id FROM users WHERE subject = :subject", subject=subject)
    user = await farebox.accounts.user(row["id"])
    assert user is not None
    return headers, user


async def account_of(farebox: Farebox, headers: dict[str, str]) -> UUID:
    return UUID((await farebox.get("/v1/account", headers)).json()["id"])


async def test_a_merged_identity_calls_as_the_account_that_goes_on(farebox: Farebox) -> None:
    service = await farebox.service()
    old, gone = await sighted(farebox, service, "u-old")
    ada = await farebox.caller(usd="1.00")
    key, _ = await farebox.accounts.create_key(name="old key", user_id=gone.id)
    await farebox.accounts.merge_users(gone.id, ada.user.id)
    await farebox.bank.merge(gone.wallet_id, ada.user.wallet_id)

    async def leads_there() -> bool:
        return await account_of(farebox, old) == ada.user.id

    await until(leads_there)
    by_key = {"authorization": f"Bearer {key}"}
    assert await account_of(farebox, by_key) == ada.user.id
    before = await farebox.spendable(ada)
    assert before > NANO - 1  # her own, and what was left of the other's allowance
    for headers in (old, by_key, ada.headers):
        assert (await farebox.chat(headers, model="flat")).status == 200
    assert await farebox.spendable(ada) == before - 3 * parse_usd("0.01")
    charges = await farebox.charges(ada.user.id)
    assert len(charges) == 3 and {charge["tier"] for charge in charges} == {"paid"}
    assert not await farebox.broken()


async def test_a_suspended_account_is_suspended_under_both_names(farebox: Farebox) -> None:
    service = await farebox.service()
    old, gone = await sighted(farebox, service, "u-old")
    ada = await farebox.caller()
    await farebox.accounts.merge_users(gone.id, ada.user.id)
    await farebox.accounts.set_status(ada.user.id, "suspended")

    async def refused() -> bool:
        return (await farebox.chat(old)).status == 403

    await until(refused)
    assert (await farebox.chat(ada)).error["code"] == "account_suspended"


async def test_a_call_under_way_while_its_user_is_merged_is_charged_once_where_it_began(
    farebox: Farebox, backend: Backend
) -> None:
    service = await farebox.service()
    old, gone = await sighted(farebox, service, "u-old")
    ada = await farebox.caller(usd="1.00")
    opened, before = asyncio.Event(), len(backend.requests)
    backend.then(lambda seen: [Gate(opened), *chat()(seen)])
    running = asyncio.create_task(farebox.chat(old, model="flat"))
    await backend.arrived(before + 1)
    await farebox.accounts.merge_users(gone.id, ada.user.id)
    opened.set()
    assert (await running).status == 200
    assert await farebox.charges(ada.user.id) == []
    assert len(await farebox.charges(gone.id)) == 2
    await farebox.bank.merge(gone.wallet_id, ada.user.wallet_id)
    assert not await farebox.broken()

"""Two Fareboxes on one database and one Redis: what is changed at one bites at the other within two seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import jwt
import pytest
from sqlalchemy import text

from ledger.budget import Budget
from ledger.money import parse_usd
from policies.key_limits import KeyLimits
from tests import house
from tests.backend import Backend, chat
from tests.house import Answer, Caller, Farebox

BITES_S = 20.0  # promised are two; a busy machine is no reason to fail
ISSUER_SECRET = "shared-with-the-issuer-0123456789abcdef"
ACME = {
    "name": "acme",
    "issuer": "https://acme.example/",
    "audience": "farebox",
    "algorithm": "HS256",
    "secret_env": "ACME_SECRET",
}


@pytest.fixture
async def replicas(
    tmp_path: Path, database_url: str, redis_url: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Farebox, Farebox]]:
    """Two of them; each has a folder of its own."""
    monkeypatch.setenv("ACME_SECRET", ISSUER_SECRET)
    async with AsyncExitStack() as stack:
        both = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir(mode=0o700)
            running = house.farebox(folder, database_url, redis_url, backend.url, issuers=[ACME])
            both.append(await stack.enter_async_context(running))
        yield both[0], both[1]


async def bites(asked: Callable[[], Awaitable[Answer]], status: int) -> Answer:
    """The first answer with this status, which must come in time."""
    async with asyncio.timeout(BITES_S):
        while (answer := await asked()).status != status:
            await asyncio.sleep(0.02)
    return answer


async def test_a_revoked_key_bites_on_the_other(replicas: tuple[Farebox, Farebox]) -> None:
    here, there = replicas
    ada = await here.caller()
    full, key = await here.accounts.create_key(name="lost", user_id=ada.user.id)
    lost = Caller(ada.user, full)
    assert [(await each.chat(lost)).status for each in replicas] == [200, 200]
    await here.accounts.revoke_key(key.id)
    assert (await bites(lambda: there.chat(lost), 401)).error["code"] == "key_revoked"
    assert (await there.chat(ada)).status == 200


async def test_a_changed_tier_of_a_user_bites_on_the_other(replicas: tuple[Farebox, Farebox]) -> None:
    here, there = replicas
    ada = await here.caller()
    assert (await there.chat(ada, model="large")).status == 200
    await here.accounts.set_tier(ada.user.id, "free")
    assert (await bites(lambda: there.chat(ada, model="large"), 403)).error["code"] == "model_not_allowed"


async def test_a_changed_definition_of_a_tier_bites_on_the_other(replicas: tuple[Farebox, Farebox]) -> None:
    here, there = replicas
    ada = await here.caller()
    assert (await there.chat(ada, model="large")).status == 200
    async with here.engine.begin() as connection:
        change = "UPDATE tiers SET doc = jsonb_set(doc, '{models}', '[\"small\"]') WHERE name = 'paid'"
        await connection.execute(text(change))
    await bites(lambda: there.chat(ada, model="large"), 403)
    assert (await there.chat(ada)).status == 200


async def test_a_changed_price_bites_on_the_other_and_not_on_past_charges(
    replicas: tuple[Farebox, Farebox], backend: Backend
) -> None:
    here, there = replicas
    ada = await here.caller()
    assert (await there.chat(ada, model="flat")).headers["x-farebox-cost"] == "0.0100"
    async with here.engine.begin() as connection:
        price = """INSERT INTO prices (model_id, doc) VALUES ('flat', '{"per_request": 30000000}')"""
        await connection.execute(text(price))

    async with asyncio.timeout(BITES_S):
        while (await there.chat(ada, model="flat")).headers["x-farebox-cost"] != "0.0300":
            await asyncio.sleep(0.02)
    await there.settled()
    charges = await here.charges(ada.user.id)
    assert charges[0]["amount"] == parse_usd("0.01") and charges[-1]["amount"] == parse_usd("0.03")
    assert charges[0]["price_version"] < charges[-1]["price_version"]
    assert not await here.broken()


async def test_a_removed_membership_bites_on_the_other(replicas: tuple[Farebox, Farebox]) -> None:
    here, there = replicas
    ada = await here.caller(usd="0")
    kept = await here.accounts.create_group(name="Team", shared=True)
    await here.bank.credit(kept.group.wallet_id, 10**9, "paid", source="test", funding="cash:test")
    await here.accounts.add_member(kept.group.id, ada.user.id)
    await bites(lambda: there.chat(ada), 200)
    await here.accounts.remove_member(kept.group.id, ada.user.id)
    assert (await bites(lambda: there.chat(ada), 402)).error["code"] == "insufficient_balance"


async def test_a_changed_group_bites_on_the_other(replicas: tuple[Farebox, Farebox]) -> None:
    here, there = replicas
    ada = await here.caller(usd="0")
    kept = await here.accounts.create_group(name="Team", shared=True)
    await here.bank.credit(kept.group.wallet_id, 10**9, "paid", source="test", funding="cash:test")
    await here.accounts.add_member(kept.group.id, ada.user.id)
    await bites(lambda: there.chat(ada, model="flat"), 200)
    await here.accounts.change_group(kept.group.id, member_cap=Budget(parse_usd("0.005")))
    refused = await bites(lambda: there.chat(ada, model="flat"), 402)
    assert refused.error["farebox"]["limit"] == "member_budget"


async def test_ended_sessions_end_the_tokens_of_an_issuer_on_the_other(replicas: tuple[Farebox, Farebox]) -> None:
    here, there = replicas
    loop_time = asyncio.get_running_loop().time

    def signed_in(issued_at: float | None) -> dict[str, str]:
        claims = {"iss": ACME["issuer"], "aud": "farebox", "exp": issued + 3600, "sub": "ida"}
        claims |= {"iat": issued_at} if issued_at is not None else {}
        return {"authorization": f"Bearer {jwt.encode(claims, ISSUER_SECRET, 'HS256')}"}

    (row,) = await here.rows("SELECT extract(epoch FROM now())::float AS now")
    issued = row["now"]
    old, undated = signed_in(issued - 1), signed_in(None)
    assert [(await there.chat(headers)).status for headers in (old, undated)] == [200, 200]
    (user,) = await here.rows("SELECT id FROM users WHERE subject = 'ida'")
    await here.accounts.revoke_sessions(user["id"])
    refused = await bites(lambda: there.chat(old), 401)
    assert (refused.error["code"], refused.error["message"]) == (
        "key_revoked",
        "This sign-in has been ended. Please sign in again.",
    )
    assert (await there.chat(undated)).error["code"] == "key_revoked"
    begun = loop_time()
    while (await there.chat(signed_in(issued + loop_time() - begun + 1))).status != 200:
        await asyncio.sleep(0.05)


async def test_limits_and_money_are_one_for_both(replicas: tuple[Farebox, Farebox], backend: Backend) -> None:
    here, there = replicas
    ada = await here.caller(usd="10.00")
    limits = KeyLimits(budget=Budget(parse_usd("0.09"), "month"))
    full, _ = await here.accounts.create_key(name="bounded", user_id=ada.user.id, limits=limits)
    bounded = Caller(ada.user, full)
    backend.answer = chat()
    calls = [each.chat(bounded, model="flat") for each in replicas for _ in range(40)]
    answers = await asyncio.gather(*calls)
    assert Counter(answer.status for answer in answers) == {200: 9, 402: 71}
    await there.settled()
    assert not await here.broken()

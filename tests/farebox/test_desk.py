"""What an operator does by hand: users, money, keys, the schema."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from config.settings import Settings
from farebox import desk
from farebox.desk import DeskError
from farebox.migrate import downgrade
from ledger.engine import make_engine
from tests import house
from tests.house import Farebox


@pytest.fixture
def settings(farebox: Farebox, data_dir: Any, database_url: str, redis_url: str) -> Settings:
    """Settings on a database that a gateway has seeded."""
    return house.settings(data_dir, database_url, redis_url)


async def _ada(settings: Settings, **more: Any) -> dict[str, Any]:
    given = {"email": "ada@example.org", "tier": "paid", "credit": "5.00", **more}
    return await desk.create_user(settings, "Ada", **given)


async def test_a_user_made_by_hand_can_call_at_once(settings: Settings, farebox: Farebox) -> None:
    made = await _ada(settings)
    answer = await farebox.chat({"authorization": f"Bearer {made['key']}"})
    assert answer.status == 200
    await farebox.settled()
    shown = await desk.show_user(settings, "ada@example.org")
    assert (shown["user"], shown["tier"], shown["balance"]) == (made["user"], "paid", "4.99999655 USD")
    assert "small chat.completions 0.00000345" in shown["charges"]
    assert made["key"] not in str(shown)


async def test_a_user_of_a_tier_with_an_allowance_has_it_without_a_call(settings: Settings) -> None:
    await desk.create_user(settings, "Bob", email="bob@example.org", tier=None, credit=None)
    shown = await desk.show_user(settings, "bob@example.org")
    assert (shown["tier"], shown["balance"], shown["charges"]) == ("free", "0.1000 USD", "none")


async def test_a_user_of_a_tier_in_tokens_is_shown_what_is_left_of_them(
    settings: Settings, farebox: Farebox, database_url: str
) -> None:
    engine = make_engine(database_url, size=1)
    tier = """{"name": "tester", "allowance": {"amount": 1000, "unit": "tokens"}}"""
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO tiers (name, doc) VALUES ('tester', CAST(:tier AS jsonb))"), {"tier": tier}
        )
    await engine.dispose()
    made = await desk.create_user(settings, "Tess", email="tess@example.org", tier="tester", credit=None)
    shown = await desk.show_user(settings, "tess@example.org")
    assert (shown["tokens"], shown["balance"]) == (1000, "0.0000 USD")
    async with asyncio.timeout(30):
        while (answer := await farebox.chat({"authorization": f"Bearer {made['key']}"})).status != 200:
            await asyncio.sleep(0.1)  # until the gateway has heard of the tier
    await farebox.settled()
    usage = answer.json()["usage"]
    assert (await desk.show_user(settings, "tess@example.org"))["tokens"] == 1000 - usage["total_tokens"]


async def test_who_did_it_is_on_record(settings: Settings, database_url: str) -> None:
    await _ada(settings)
    await desk.set_tier(settings, "ada@example.org", "pro")
    engine = make_engine(database_url, size=1)
    async with engine.begin() as connection:
        recorded = (await connection.execute(text("SELECT action, actor FROM audit ORDER BY seq"))).all()
    await engine.dispose()
    assert [tuple(row) for row in recorded] == [
        (action, "command line") for action in ("user.create", "key.create", "credit.payment", "user.tier")
    ]


async def test_money_is_booked_once_for_each_reference(settings: Settings) -> None:
    await _ada(settings, credit=None)
    ends = datetime.now(UTC) + timedelta(days=1)
    given: dict[str, Any] = {"kind": "paid", "ref": "invoice 1", "expires_at": None}
    assert (await desk.credit(settings, "ada@example.org", "2.50", **given))["booked"] == "yes"
    again = await desk.credit(settings, "ada@example.org", "2.50", **given)
    assert again["booked"].startswith("no") and again["balance"] == "2.5000"
    gift = await desk.credit(settings, "ada@example.org", "1", kind="promo", ref="gift", expires_at=ends)
    assert gift["balance"] == "3.5000"
    with pytest.raises(DeskError, match="in the future"):
        over = datetime.now(UTC) - timedelta(days=1)
        await desk.credit(settings, "ada@example.org", "1", kind="promo", ref="late", expires_at=over)
    assert all(finding.holds for finding in await desk.verify_ledger(settings))


async def test_an_amount_that_is_none_is_refused(settings: Settings) -> None:
    await _ada(settings, credit=None)
    for usd in ("0", "-1", "much", "0.0000000001", "NaN"):
        with pytest.raises(DeskError):
            await desk.credit(settings, "ada@example.org", usd, kind="paid", ref=usd, expires_at=None)
    assert (await desk.show_user(settings, "ada@example.org"))["balance"] == "0.0000 USD"


async def test_a_tier_is_changed_only_to_one_there_is(settings: Settings) -> None:
    await _ada(settings)
    assert (await desk.set_tier(settings, "ada@example.org", "pro"))["tier"] == "pro"
    assert (await desk.show_user(settings, "ada@example.org"))["tier"] == "pro"
    with pytest.raises(DeskError, match="no tier gold; known are admin, free, paid, pro"):
        await desk.set_tier(settings, "ada@example.org", "gold")
    with pytest.raises(DeskError, match="no tier gold"):
        await _ada(settings, tier="gold")


async def test_who_is_not_known_is_said(settings: Settings) -> None:
    with pytest.raises(DeskError, match="answers to nobody"):
        await desk.show_user(settings, "nobody@example.org")
    with pytest.raises(DeskError, match="kind must be paid or promo"):
        await desk.credit(settings, "x", "1", kind="refund", ref="x", expires_at=None)


async def test_keys_are_made_listed_and_revoked(settings: Settings, farebox: Farebox) -> None:
    await _ada(settings)
    given: dict[str, Any] = {"plain_headers": True, "realm": "chat", "expires_at": None}
    service = await desk.create_key(settings, "webui", user="", forward_users=True, **given)
    own = await desk.create_key(settings, "laptop", user="ada@example.org", forward_users=False, **given)
    rows = {row["name"]: row for row in await desk.list_keys(settings)}
    assert rows["webui"]["of"] == "service chat" and rows["webui"]["scopes"] == "forward_users"
    assert service["key"] not in str(rows) and own["key"] not in str(rows)
    assert (await farebox.get("/v1/models", {"authorization": f"Bearer {own['key']}"})).status == 200
    await desk.revoke_key(settings, rows["laptop"]["prefix"])
    assert {row["name"]: row["revoked"] != "no" for row in await desk.list_keys(settings)}["laptop"]
    with pytest.raises(DeskError, match="no key nothing"):
        await desk.revoke_key(settings, "nothing")


@pytest.mark.parametrize("user, forward", [("", False), ("ada@example.org", True)])
async def test_a_key_belongs_to_a_user_or_to_a_service(settings: Settings, user: str, forward: bool) -> None:
    with pytest.raises(DeskError, match="either to a user"):
        await desk.create_key(
            settings, "x", user=user, forward_users=forward, plain_headers=False, realm="", expires_at=None
        )


async def test_the_schema_is_moved_and_the_desk_waits_for_it(settings: Settings, database_url: str) -> None:
    current = await desk.migrate(settings, "status")
    await downgrade(database_url, 1)
    assert await desk.migrate(settings, "status") != current
    with pytest.raises(DeskError):
        await desk.show_user(settings, "x")
    assert await desk.migrate(settings, "up") == current

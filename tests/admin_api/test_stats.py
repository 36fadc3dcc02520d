"""The house at a glance agrees with the ledger."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from ledger.money import format_usd, parse_usd
from ledger.roller import Roller
from tests.admin_api.conftest import Login
from tests.house import Admin, Farebox, until


async def _counted(farebox: Farebox) -> None:
    """Wait until everything posted is counted."""
    await farebox.settled()

    async def counted() -> bool:
        return not await farebox.rows("SELECT 1 FROM charges_to_roll LIMIT 1")

    await until(counted)


async def test_the_overview_adds_up_what_the_ledger_has(farebox: Farebox, admin: Admin) -> None:
    ada, root = await farebox.caller(usd="5.00"), await farebox.caller(name="Root", tier="admin", usd="0")
    for _ in range(3):
        await farebox.chat(ada, model="flat")
    await farebox.chat(root, model="flat")
    charge = (await farebox.charges(ada.user.id))[0]
    await admin.made(f"/charges/{charge['request_id']}/refund", {"amount": "0.004", "reason": "x"})
    await _counted(farebox)
    shown = await admin.read("/stats/overview")
    for period in ("today", "month", "year"):
        told = shown[period]
        assert (told["calls"], told["charged"], told["house_cost"]) == (4, "0.0400", "0.0100"), period
        assert (told["refunded"], told["revenue"]) == ("0.0040", "0.0260")
        assert (told["list_cost"], told["overrun"], told["allowance_tokens"]) == ("0.0400", "0.0000", 0)
        rows = await farebox.rows("SELECT usage FROM charges")
        assert told["input_tokens"] == sum(row["usage"].get("input", 0) for row in rows)
    assert shown["month"]["since"] == str(datetime.now(UTC).date().replace(day=1))
    users = shown["users"]
    assert (users["total"], users["new_today"], users["new_this_month"], users["suspended"]) == (2, 2, 2, 0)
    assert (users["active_today"], users["active_this_week"], users["active_this_month"]) == (2, 2, 2)
    [wallets] = await farebox.rows("SELECT sum(spendable) AS owed FROM wallets")
    assert shown["money"]["liabilities"] == format_usd(int(wallets["owed"]))
    assert parse_usd(shown["money"]["liabilities"]) == parse_usd("5.00") - parse_usd(shown["month"]["revenue"])
    assert await farebox.broken() == []


async def test_refusals_deleted_and_suspended_users_are_told(farebox: Farebox, admin: Admin) -> None:
    ada, bob = await farebox.caller(), await farebox.caller(name="Bob")
    await farebox.accounts.set_status(ada.user.id, "suspended")
    await farebox.accounts.set_status(bob.user.id, "deleted")
    async with farebox.engine.begin() as connection:
        await connection.exec_driver_sql("INSERT INTO refusals_by_hour VALUES (date_trunc('hour', now()), 'c', 't', 7)")
    shown = await admin.read("/stats/overview")
    assert (shown["users"]["total"], shown["users"]["suspended"]) == (1, 1)
    assert shown["today"]["refusals"] == shown["year"]["refusals"] == 7


async def test_an_empty_house_has_an_overview_of_nothing(farebox: Farebox, login: Login) -> None:
    shown = await (await login("support")).read("/stats/overview")
    assert shown["users"]["total"] == shown["year"]["calls"] == 0 and shown["money"]["liabilities"] == "0.0000"


async def test_active_users_are_listed_by_period_newest_first(farebox: Farebox, admin: Admin) -> None:
    for name in ("Ada", "Bob"):
        await farebox.chat(await farebox.caller(name=name))
    await _counted(farebox)
    today = datetime.now(UTC).date()
    async with farebox.engine.begin() as connection:
        await connection.exec_driver_sql(
            f"INSERT INTO active_user_counts VALUES ('day', '{today - timedelta(days=1)}', 5)"
        )
    days = await admin.read("/stats/active", period="day")
    assert [(row["starts"], row["users"]) for row in days["data"]] == [
        (str(today), 2),
        (str(today - timedelta(days=1)), 5),
    ]
    [week] = (await admin.read("/stats/active", period="week"))["data"]
    assert date.fromisoformat(week["starts"]).weekday() == 0
    first = await admin.read("/stats/active", period="day", limit=1)
    second = await admin.read("/stats/active", period="day", limit=1, cursor=first["next_cursor"])
    assert second["data"][0]["users"] == 5
    some = await admin.read("/stats/active", period="day", since=today - timedelta(days=1), until=today)
    assert [row["users"] for row in some["data"]] == [5]
    assert (await admin.get("/stats/active", period="decade")).status == 422
    assert (await admin.get("/stats/active", period="day", format="csv")).body.startswith(b"starts,users\r\n")


async def test_a_running_farebox_counts_by_itself(farebox: Farebox) -> None:
    await farebox.chat(await farebox.caller())
    await _counted(farebox)
    [row] = await farebox.rows("SELECT sum(calls) AS calls FROM usage_by_month")
    assert row["calls"] == 1 and await Roller(farebox.engine).roll() == 0

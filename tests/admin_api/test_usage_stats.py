"""Usage and refusals over HTTP, by time and by what they were of, a page at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from accounts.users import User
from ledger.ids import uuid7_at
from ledger.reading import reader
from ledger.roller import write
from ledger.rollup import Counted, rolled
from ledger.spans import first_of
from ledger.usage import Usage
from tests.house import Admin, Farebox

_NOW = datetime.now(UTC)


def _call(amount: int, **more: Any) -> Counted:
    at = more.pop("at", _NOW)
    values: dict[str, Any] = {"user_id": UUID(int=1), "tier": "pro", "model": "m", "task": "", "currency": "USD"}
    values |= {"usage": Usage(input=amount, output=1), "overrun": 0, "house": False, "factor_ppm": 1_000_000}
    return Counted(request_id=uuid7_at(at), amount=amount, price_version=1, variant="", **{**values, **more})


async def _count(farebox: Farebox, *calls: Counted) -> None:
    async with reader(farebox.engine) as driver, driver.transaction():
        await write(driver, rolled(calls, {}))


async def _user(farebox: Farebox, name: str) -> User:
    return (await farebox.caller(name=name)).user


async def test_usage_by_time_begins_with_the_earliest(farebox: Farebox, admin: Admin) -> None:
    await _count(farebox, _call(10**9), _call(2 * 10**9, at=_NOW - timedelta(hours=2)))
    hours = (await admin.read("/stats/usage", group_by="hour"))["data"]
    assert [(row["starts"], row["amount"]) for row in hours] == [
        (f"{first_of('hour', _NOW - timedelta(hours=2)):%Y-%m-%dT%H:%M:%SZ}", "2.0000"),
        (f"{first_of('hour', _NOW):%Y-%m-%dT%H:%M:%SZ}", "1.0000"),
    ]
    assert hours[0]["label"] is None and hours[0]["user_id"] is None and hours[0]["list_cost"] == "2.0000"
    first = await admin.read("/stats/usage", group_by="hour", limit=1)
    second = await admin.read("/stats/usage", group_by="hour", limit=1, cursor=first["next_cursor"])
    assert first["data"] + second["data"] == hours


async def test_usage_by_label_begins_with_the_dearest_and_is_paged(farebox: Farebox, admin: Admin) -> None:
    await _count(farebox, *(_call(amount, model=name) for name, amount in (("a", 5), ("b", 9), ("c", 5), ("d", 1))))
    rows = (await admin.read("/stats/usage", group_by="model"))["data"]
    assert [row["label"] for row in rows] == ["b", "a", "c", "d"]
    seen, cursor = [], None
    while True:
        page = await admin.read("/stats/usage", group_by="model", limit=1, cursor=cursor)
        seen += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == rows
    assert [row["label"] for row in (await admin.read("/stats/usage", group_by="tier", model="b"))["data"]] == ["pro"]
    assert (await admin.read("/stats/usage", group_by="task", tier="free"))["data"] == []


async def test_tokens_are_asked_for_apart(farebox: Farebox, admin: Admin) -> None:
    await _count(farebox, _call(7, currency="TOK"), _call(10**9))
    [row] = (await admin.read("/stats/usage", group_by="month", currency="TOK"))["data"]
    assert (row["amount"], row["amount_tokens"], row["list_cost"]) == (None, 7, None)
    [row] = (await admin.read("/stats/usage", group_by="month"))["data"]
    assert (row["amount"], row["amount_tokens"]) == ("1.0000", None)


async def test_users_are_listed_the_dearest_first_with_their_names(farebox: Farebox, admin: Admin) -> None:
    ada, bob = await _user(farebox, "Ada"), await _user(farebox, "Bob")
    gone = UUID(int=9)
    await _count(farebox, *(_call(amount, user_id=who) for who, amount in ((ada.id, 5), (bob.id, 9), (gone, 7))))
    rows = (await admin.read("/stats/usage", group_by="user"))["data"]
    assert [(row["user_id"], row["name"]) for row in rows] == [
        (str(bob.id), "Bob"),
        (str(gone), None),
        (str(ada.id), "Ada"),
    ]
    assert rows[0]["email"] == "bob@example.org" and rows[0]["list_cost"] is None
    first = await admin.read("/stats/usage", group_by="user", limit=2)
    rest = await admin.read("/stats/usage", group_by="user", limit=2, cursor=first["next_cursor"])
    assert first["data"] + rest["data"] == rows
    year = first_of("month", _NOW).replace(month=1)
    assert (await admin.read("/stats/usage", group_by="user", since=year.isoformat()))["data"] == rows
    old = {"since": "2025-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    assert (await admin.read("/stats/usage", group_by="user", **old))["data"] == []
    exported = (await admin.get("/stats/usage", group_by="user", format="csv")).body.decode().splitlines()
    assert len(exported) == 4 and "Bob" in exported[1]


async def test_refusals_are_told_by_code_tier_and_time(farebox: Farebox, admin: Admin) -> None:
    hour = first_of("hour", _NOW)
    async with farebox.engine.begin() as connection:
        for code, tier, many in (("a", "free", 1), ("b", "free", 5), ("a", "pro", 5)):
            await connection.exec_driver_sql(
                f"INSERT INTO refusals_by_hour VALUES ('{hour.isoformat()}', '{code}', '{tier}', {many})"
            )
    codes = await admin.read("/stats/refusals", group_by="code", limit=1)
    assert [(row["label"], row["refusals"]) for row in codes["data"]] == [("a", 6)]
    rest = await admin.read("/stats/refusals", group_by="code", limit=1, cursor=codes["next_cursor"])
    assert [(row["label"], row["refusals"]) for row in rest["data"]] == [("b", 5)]
    tiers = (await admin.read("/stats/refusals", group_by="tier"))["data"]
    assert [(row["label"], row["refusals"]) for row in tiers] == [("free", 6), ("pro", 5)]
    for grain in ("hour", "day", "month"):
        [row] = (await admin.read("/stats/refusals", group_by=grain))["data"]
        assert (row["refusals"], row["label"]) == (11, None) and row["starts"] is not None
    assert b"refusals" in (await admin.get("/stats/refusals", group_by="code", format="csv")).body


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"group_by": "colour"}, "group_by"),
        ({}, "group_by"),
        ({"group_by": "day", "since": "2026-01-01T00:30:00Z"}, "since"),
        ({"group_by": "day", "until": "2026-01-01T00:30:00Z"}, "until"),
        ({"group_by": "day", "since": "2026-02-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}, "until"),
        ({"group_by": "hour", "since": "2026-01-01T00:00:00Z", "until": "2026-02-02T00:00:00Z"}, "until"),
        ({"group_by": "day", "since": "2024-01-01T00:00:00Z", "until": "2026-02-02T00:00:00Z"}, "until"),
        ({"group_by": "user", "since": "2026-01-02T00:00:00Z"}, "since"),
        ({"group_by": "user", "since": "2024-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"group_by": "user", "since": "2024-02-01T00:00:00Z", "until": "2024-04-01T00:00:00Z"}, "until"),
        ({"group_by": "user", "since": "2024-02-01T00:00:00Z"}, "until"),
        ({"group_by": "user", "model": "m"}, "model"),
        ({"group_by": "model", "currency": "EUR"}, "currency"),
    ],
    ids=str,
)
async def test_a_question_that_cannot_be_answered_is_refused_by_name(
    farebox: Farebox, admin: Admin, query: dict[str, str], name: str
) -> None:
    answer = await admin.get("/stats/usage", **query)
    assert (answer.status, answer.json()["errors"][0]["parameter"]) == (422, name)

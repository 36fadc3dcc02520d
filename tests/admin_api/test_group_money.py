"""A group's money over HTTP: given and taken as a user's, and spent by its members from one wallet."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.admin_api.world import grouped, path_of, pointers
from tests.house import Admin, Farebox


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


def order(kind: str, amount: str) -> dict[str, Any]:
    return {"kind": kind, "amount": amount, "reason": "because"}


async def test_members_spend_what_the_group_was_given(admin: Admin, module_farebox: Farebox) -> None:
    callers = [await module_farebox.caller(tier="pro", usd="1.00") for _ in range(2)]
    ids = [caller.user.id for caller in callers]
    group = await grouped(module_farebox, *ids, name=uuid4().hex, shared=True)
    path = f"/groups/{group['id']}"
    given = await admin.made(f"{path}/credits", order("payment", "5.00"), key=str(uuid4()))
    assert given["balance"]["available"] == "5.0000"
    for caller in callers:
        assert (await module_farebox.chat(caller)).status == 200
    spent = sum([row["amount"] for caller in callers for row in await module_farebox.charges(caller.user.id)])
    left = (await admin.read(path))["balance"]["available"]
    assert round(float(left) * 1e9) == 5 * 10**9 - spent
    assert [line["kind"] for line in (await admin.read(f"{path}/ledger"))["data"]] == ["charge", "charge", "grant"]
    (grant,) = (await admin.read(f"{path}/grants"))["data"]
    assert grant["remaining"] == left and (await admin.read(path_of(callers[0])))["balance"]["available"] == left
    assert [await module_farebox.spendable(caller) for caller in callers] == [10**9, 10**9]


async def test_more_than_is_there_is_not_taken(admin: Admin) -> None:
    group = await admin.made("/groups", {"name": uuid4().hex, "shared": True})
    path = f"/groups/{group['id']}/credits"
    await admin.made(path, order("grant", "1.00"))
    assert (await admin.post(path, order("deduct", "1.01"))).json()["available"] == "1.0000"
    assert [each["kind"] for each in (await admin.read(path))["data"]] == ["grant"]


async def test_a_retired_groups_money_is_taken_back(admin: Admin) -> None:
    group = await admin.made("/groups", {"name": uuid4().hex, "shared": True})
    path = f"/groups/{group['id']}"
    await admin.made(f"{path}/credits", order("grant", "1.00"))
    await admin.delete(path, match='"1"')
    assert (await admin.made(f"{path}/credits", order("deduct", "1.00")))["balance"]["available"] == "0.0000"


async def test_a_group_has_no_tokens(admin: Admin) -> None:
    group = await admin.made("/groups", {"name": uuid4().hex, "shared": True})
    answer = await admin.post(f"/groups/{group['id']}/credits", {"kind": "grant", "tokens": 5, "reason": "x"})
    assert pointers(answer) == ["#/tokens"]


async def test_support_moves_no_money(module_support: Admin, admin: Admin) -> None:
    group = await admin.made("/groups", {"name": uuid4().hex})
    path = f"/groups/{group['id']}"
    assert (await module_support.post(f"{path}/credits", order("grant", "1.00"))).status == 403
    for what in ("credits", "ledger", "grants"):
        assert (await module_support.get(f"{path}/{what}")).status == 200


async def test_the_books_hold_after_all_of_this(module_farebox: Farebox) -> None:
    assert [finding.line() for finding in await module_farebox.broken()] == []

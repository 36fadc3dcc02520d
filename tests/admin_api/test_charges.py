"""Charges over HTTP agree with the ledger, to the last leg; refunds give back once."""

from __future__ import annotations

import csv
import io
from typing import Any
from uuid import uuid4

import pytest

from ledger.money import format_usd
from tests.admin_api.conftest import Login
from tests.backend import Backend
from tests.house import Admin, Caller, Farebox


async def _spent(farebox: Farebox, caller: Caller, calls: int = 1, **more: Any) -> list[Any]:
    """The charges of so many chats, newest first."""
    for _ in range(calls):
        assert (await farebox.chat(caller, **more)).status == 200
    return (await farebox.charges(caller.user.id))[::-1]


async def test_a_call_is_listed_as_the_ledger_charged_it(farebox: Farebox, admin: Admin) -> None:
    ada = await farebox.caller()
    [charge] = await _spent(farebox, ada)
    [shown] = (await admin.read("/charges"))["data"]
    assert (shown["id"], shown["user_id"]) == (str(charge["request_id"]), str(ada.user.id))
    assert (shown["amount"], shown["amount_tokens"]) == (format_usd(charge["amount"]), 0)
    assert (shown["model"], shown["tier"], shown["outcome"], shown["currency"]) == ("small", "paid", "completed", "USD")
    usage = charge["usage"]
    assert shown["input_tokens"] == usage["input"] and shown["output_tokens"] == usage["output"]
    assert (shown["refunded"], shown["overrun"], shown["house"]) == ("0.0000", "0.0000", False)


async def test_lists_are_filtered_and_paged(farebox: Farebox, admin: Admin) -> None:
    ada, bob = await farebox.caller(), await farebox.caller(name="Bob", tier="admin")
    ours = [str(row["request_id"]) for row in await _spent(farebox, ada, 3)]
    [theirs] = await _spent(farebox, bob, model="large")

    async def ids(**query: Any) -> list[str]:
        path = f"/charges?key={query.pop('with_key')}" if "with_key" in query else "/charges"
        return [each["id"] for each in (await admin.read(path, **query))["data"]]

    assert await ids() == [str(theirs["request_id"]), *ours]
    assert await ids(user=ada.user.id) == ours
    assert await ids(user=uuid4()) == []
    for query in ({"model": "large"}, {"tier": "admin"}, {"with_key": theirs["key_id"]}, {"min_amount": "0.00005"}):
        assert await ids(**query) == [str(theirs["request_id"])], query
    assert await ids(route="chat.completions", outcome="completed", task="", currency="USD", limit=2) == [
        str(theirs["request_id"]),
        ours[0],
    ]
    first = await admin.read("/charges", user=ada.user.id, limit=2)
    second = await admin.read("/charges", user=ada.user.id, limit=2, cursor=first["next_cursor"])
    assert [each["id"] for each in first["data"] + second["data"]] == ours and second["next_cursor"] is None
    assert await ids(until="2026-01-01T00:00:00Z") == [] and len(await ids(since="2026-01-01T00:00:00Z")) == 4


async def test_a_merged_users_charges_are_its_new_owners(farebox: Farebox, admin: Admin) -> None:
    ada, bob = await farebox.caller(), await farebox.caller(name="Bob")
    [charge] = await _spent(farebox, bob)
    await _merge(farebox, bob, ada)
    [shown] = (await admin.read("/charges", user=ada.user.id))["data"]
    assert shown["id"] == str(charge["request_id"])


async def _merge(farebox: Farebox, source: Caller, target: Caller) -> None:
    await farebox.bank.merge(source.user.wallet_id, target.user.wallet_id)
    await farebox.accounts.merge_users(source.user.id, target.user.id)


async def test_one_charge_is_read_with_its_words_entries_and_refunds(farebox: Farebox, admin: Admin) -> None:
    ada = await farebox.caller()
    [charge] = await _spent(farebox, ada)
    path = f"/charges/{charge['request_id']}"
    shown = await admin.read(path)
    [word] = shown["words"]
    assert (word["rev"], word["usage"], word["price_version"]) == ("final", charge["usage"], charge["price_version"])
    [entry] = shown["entries"]
    assert {leg["account"] for leg in entry["legs"]} == {f"wallet:{ada.user.wallet_id}:paid", "rev:usage"}
    assert sorted(leg["amount"] for leg in entry["legs"]) == sorted([shown["amount"], f"-{shown['amount']}"])
    assert shown["refunds"] == [] and shown["wallet_id"] == str(ada.user.wallet_id)


@pytest.mark.parametrize(
    "which", ["5b7f6b7e-3c3f-4b57-9a51-0d6f3a5c2e11", "nonsense", "0198f2a1-7c1e-7d50-9a51-3f6de0a5a9b1"]
)
async def test_a_charge_that_is_not_there_is_not_found(farebox: Farebox, admin: Admin, which: str) -> None:
    for answer in (await admin.get(f"/charges/{which}"), await admin.post(f"/charges/{which}/refund", {"reason": "x"})):
        assert (answer.status, answer.json()["title"]) == (404, "Not found")


async def test_a_refund_gives_back_once_and_no_more_than_was_charged(farebox: Farebox, admin: Admin) -> None:
    ada = await farebox.caller(usd="5.00")
    [charge] = await _spent(farebox, ada, model="flat")
    path = f"/charges/{charge['request_id']}"
    spent = await farebox.spendable(ada)
    first = await admin.made(f"{path}/refund", {"amount": "0.004", "reason": "cut short"}, key="r-1")
    again = await admin.made(f"{path}/refund", {"amount": "0.004", "reason": "cut short"}, key="r-1")
    assert first == again and (first["amount"], first["forgiven"]) == ("0.0040", "0.0000")
    assert await farebox.spendable(ada) == spent + 4_000_000
    refused = await admin.post(f"{path}/refund", {"amount": "0.0061", "reason": "too much"})
    assert (refused.status, refused.json()["left"]) == (409, "0.0060")
    rest = await admin.made(f"{path}/refund", {"reason": "all of it"})
    assert rest["amount"] == "0.0060" and await farebox.spendable(ada) == 5_000_000_000
    assert (await admin.post(f"{path}/refund", {"reason": "once more"})).status == 409
    shown = await admin.read(path)
    assert shown["refunded"] == "0.0100" and [each["reason"] for each in shown["refunds"]] == ["cut short", "all of it"]
    assert [entry["kind"] for entry in shown["entries"]] == ["charge", "refund", "refund"]
    audited = (await admin.read("/audit", action="charge.refund"))["data"]
    assert len(audited) == 2 and {each["target_id"] for each in audited} == {str(charge["request_id"])}
    assert await farebox.broken() == []


async def test_a_refund_says_which_money_it_means(farebox: Farebox, admin: Admin) -> None:
    [charge] = await _spent(farebox, await farebox.caller())
    answer = await admin.post(f"/charges/{charge['request_id']}/refund", {"tokens": 5, "reason": "x"})
    assert (answer.status, answer.json()["errors"][0]["pointer"]) == (422, "#/tokens")
    for wrong in ({"amount": "0", "reason": "x"}, {"amount": "1.00"}, {"amount": 1, "reason": "x"}):
        assert (await admin.post(f"/charges/{charge['request_id']}/refund", wrong)).status == 422, wrong


async def test_support_may_look_and_give_nothing_back(farebox: Farebox, login: Login) -> None:
    [charge] = await _spent(farebox, await farebox.caller())
    support = await login("support")
    assert len((await support.read("/charges"))["data"]) == 1
    assert (await support.post(f"/charges/{charge['request_id']}/refund", {"reason": "x"})).status == 403


async def test_a_wrong_filter_is_named(farebox: Farebox, admin: Admin) -> None:
    for query, name in (
        ({"outcome": "odd"}, "outcome"),
        ({"user": "x"}, "user"),
        ({"min_amount": "much"}, "min_amount"),
        ({"since": "yesterday"}, "since"),
        ({"min_amount": "1", "currency": "TOK"}, "min_amount"),
        ({"cursor": "WyJ4Il0"}, "cursor"),
    ):
        answer = await admin.get("/charges", **query)
        assert (answer.status, answer.json()["errors"][0]["parameter"]) == (422, name)


async def test_charges_are_exported_as_they_are_listed(farebox: Farebox, admin: Admin, backend: Backend) -> None:
    ada = await farebox.caller()
    charges = await _spent(farebox, ada, 3)
    answer = await admin.get("/charges", format="csv", user=ada.user.id)
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["id"] for row in rows] == [str(charge["request_id"]) for charge in charges]
    assert [row["amount"] for row in rows] == [format_usd(charge["amount"]) for charge in charges]
    assert (await admin.get("/charges", format="xlsx")).body.startswith(b"PK")

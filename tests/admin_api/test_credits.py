"""Credits over HTTP: each once, with a reason, never more than is there, and every one of them in the books."""

from __future__ import annotations

import asyncio
import io
from typing import Any
from uuid import uuid4

import pytest
from openpyxl import load_workbook

from ledger.hold import CallFacts
from ledger.ids import uuid7
from ledger.money import NANO, format_usd
from ledger.store import HoldAsk
from tests.admin_api.world import audited, path_of, pointers
from tests.house import Admin, Caller, Farebox


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


@pytest.fixture
async def caller(module_farebox: Farebox) -> Caller:
    return await module_farebox.caller(tier="pro", usd="0")


def order(kind: str, amount: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "amount": amount, "reason": "because", **more}


async def credited(admin: Admin, caller: Caller, kind: str, amount: str, **more: Any) -> Any:
    return await admin.made(f"{path_of(caller)}/credits", order(kind, amount), **more)


async def test_what_is_given_and_taken_is_the_new_balance_and_the_ledgers(
    admin: Admin, module_farebox: Farebox, caller: Caller
) -> None:
    steps = [
        ("payment", "10.00", "10.0000"),
        ("grant", "2.50", "12.5000"),
        ("refund", "0.000000001", "12.500000001"),
        ("adjustment", "-0.5", "12.000000001"),
        ("adjustment", "1", "13.000000001"),
        ("deduct", "3.00", "10.000000001"),
    ]
    for kind, amount, after in steps:
        done = await credited(admin, caller, kind, amount)
        assert (done["balance"]["available"], done["created"], done["token_balance"]) == (after, True, None)
        assert format_usd(await module_farebox.spendable(caller)) == after
    rows = await module_farebox.rows(
        "SELECT -sum(amount) AS held FROM postings WHERE wallet_id = :id", id=caller.user.wallet_id
    )
    assert format_usd(int(rows[0]["held"])) == "10.000000001"


async def test_the_history_tells_of_each_who_why_and_when_it_ends(admin: Admin, caller: Caller) -> None:
    await credited(admin, caller, "grant", "1.00", key="a-key")
    body = order("grant", "2.00", expires_at="2199-01-01T00:00:00+02:00")
    await admin.made(f"{path_of(caller)}/credits", body)
    await credited(admin, caller, "deduct", "0.50")
    page = await admin.read(f"{path_of(caller)}/credits", limit=2)
    rest = await admin.read(f"{path_of(caller)}/credits", cursor=page["next_cursor"])
    taken, ending, first = page["data"] + rest["data"]
    assert (taken["kind"], taken["amount"], taken["currency"]) == ("deduct", "-0.5000", "USD")
    assert (ending["expires_at"], first["expires_at"]) == ("2198-12-31T22:00:00Z", None)
    assert (first["reason"], first["actor"], first["source"]) == ("because", "admin-key", "api:admin-key:a-key")


async def test_money_that_is_sent_again_comes_once(admin: Admin, caller: Caller) -> None:
    key = str(uuid4())
    first, again = [await admin.post(f"{path_of(caller)}/credits", order("grant", "1.00"), key=key) for _ in range(2)]
    assert (first.status, again.status) == (201, 201) and first.body == again.body
    other = await admin.post(f"{path_of(caller)}/credits", order("grant", "2.00"), key=key)
    assert (other.status, other.json()["type"]) == (422, "urn:farebox:problem:key-reused")
    assert len((await admin.read(f"{path_of(caller)}/credits"))["data"]) == 1


async def test_of_many_that_send_the_same_at_once_one_gives(admin: Admin, caller: Caller) -> None:
    key = str(uuid4())
    sent = [admin.post(f"{path_of(caller)}/credits", order("payment", "1.00"), key=key) for _ in range(12)]
    statuses = {answer.status for answer in await asyncio.gather(*sent)}
    assert statuses <= {201, 409} and 201 in statuses
    assert len((await admin.read(f"{path_of(caller)}/credits"))["data"]) == 1


async def test_more_than_is_there_is_not_taken_and_what_is_there_is_said(admin: Admin, caller: Caller) -> None:
    await credited(admin, caller, "grant", "1.00")
    for body in (order("deduct", "1.000000001"), order("adjustment", "-2")):
        answer = await admin.post(f"{path_of(caller)}/credits", body)
        assert (answer.status, answer.json()["available"]) == (409, "1.0000")
        assert "1.0000 USD" in answer.json()["detail"]


async def test_what_is_set_aside_for_a_call_is_not_taken(admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    await credited(admin, caller, "grant", "1.00")
    wallet, bank = caller.user.wallet_id, module_farebox.bank
    facts = CallFacts(user_id=caller.user.id, tier="pro", model="small", route="chat.completions")
    await bank.balance(wallet, None)
    [held] = await bank.open_holds([HoldAsk(uuid7(), wallet, NANO // 4, NANO // 4, 1, 1_000_000, facts)])
    assert held.status == "ok"
    answer = await admin.post(f"{path_of(caller)}/credits", order("deduct", "1.00"))
    assert (answer.status, answer.json()["available"]) == (409, "0.7500")
    assert (await credited(admin, caller, "deduct", "0.75"))["balance"]["held"] == "0.2500"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (order("grant", "0"), ["#/amount"]),
        (order("grant", "-1.00"), ["#/amount"]),
        (order("deduct", "-1.00"), ["#/amount"]),
        (order("adjustment", "0.0"), ["#/amount"]),
        (order("gift", "1.00"), ["#/kind"]),
        (order("grant", "1.0000000001"), ["#/amount"]),
        ({"kind": "grant", "amount": 1.5, "reason": "x"}, ["#/amount"]),
        ({"kind": "grant", "amount": 1, "reason": "x"}, ["#/amount"]),
        ({"kind": "grant", "reason": "x"}, ["#/amount"]),
        ({"kind": "grant", "amount": "1.00"}, ["#/reason"]),
        (order("grant", "1.00", reason=""), ["#/reason"]),
        (order("grant", "1.00", tokens=5), ["#/tokens"]),
        ({"kind": "payment", "tokens": 5, "reason": "x"}, ["#/tokens"]),
        (order("grant", "1.00", expires_at="2020-01-01T00:00:00Z"), ["#/expires_at"]),
        (order("deduct", "1.00", expires_at="2199-01-01T00:00:00Z"), ["#/expires_at"]),
        (order("grant", "1.00", wallet="mine"), ["#/wallet"]),
    ],
)
async def test_an_order_that_makes_no_sense_moves_nothing(
    admin: Admin, caller: Caller, body: dict[str, Any], where: list[str]
) -> None:
    assert pointers(await admin.post(f"{path_of(caller)}/credits", body)) == where
    assert (await admin.read(f"{path_of(caller)}/credits"))["data"] == []


async def test_tokens_are_given_and_taken_beside_money(admin: Admin, caller: Caller) -> None:
    path = f"{path_of(caller)}/credits"
    given = await admin.made(path, {"kind": "grant", "tokens": 500, "reason": "more to try"})
    assert (given["currency"], given["amount"], given["amount_tokens"]) == ("TOK", "0.0000", 500)
    assert given["token_balance"] == {"spendable": 500, "held": 0, "available": 500} and given["balance"] is None
    taken = await admin.post(path, {"kind": "deduct", "tokens": 501, "reason": "too many"})
    assert (taken.status, taken.json()["available"]) == (409, "500")
    assert (await admin.read(path))["data"] == []
    (credit,) = (await admin.read(path, currency="TOK"))["data"]
    assert (credit["amount_tokens"], credit["currency"]) == (500, "TOK")
    (line,) = (await admin.read(f"{path_of(caller)}/ledger", currency="TOK"))["data"]
    assert (line["amount"], line["amount_tokens"]) == ("0.0000", 500)
    (grant,) = (await admin.read(f"{path_of(caller)}/grants"))["data"]
    assert (grant["currency"], grant["remaining_tokens"], grant["remaining"]) == ("TOK", 500, "0.0000")


async def test_the_ledger_adds_up_line_by_line(admin: Admin, module_farebox: Farebox, caller: Caller) -> None:
    await credited(admin, caller, "payment", "1.00")
    await credited(admin, caller, "grant", "0.50")
    assert (await module_farebox.chat(caller)).status == 200
    spendable = await module_farebox.spendable(caller)
    lines, cursor = [], None
    while True:
        page = await admin.read(f"{path_of(caller)}/ledger", limit=2, cursor=cursor)
        lines += page["data"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert [line["kind"] for line in lines] == ["charge", "grant", "grant"]
    assert lines[0]["promo"] == lines[0]["amount"] and lines[0]["paid"] == "0.0000"
    total = sum(round(float(line["amount"]) * NANO) for line in lines)
    assert total == spendable


@pytest.mark.parametrize("what", ["credits", "ledger"])
async def test_the_books_are_files_too(admin: Admin, caller: Caller, what: str) -> None:
    await credited(admin, caller, "payment", "1.25")
    answer = await admin.get(f"{path_of(caller)}/{what}", format="xlsx")
    sheet = load_workbook(io.BytesIO(answer.body), read_only=True).worksheets[0]
    heading, row = list(sheet.values)
    told = dict(zip(heading, row, strict=True))
    assert told["amount"] == 1.25 and told["currency"] == "USD"


async def test_grants_stand_in_the_order_in_which_they_burn(admin: Admin, caller: Caller) -> None:
    await credited(admin, caller, "payment", "1.00")
    await credited(admin, caller, "grant", "2.00")
    body = order("grant", "3.00", expires_at="2199-01-01T00:00:00Z")
    await admin.made(f"{path_of(caller)}/credits", body)
    grants = (await admin.read(f"{path_of(caller)}/grants"))["data"]
    assert [(each["kind"], each["remaining"]) for each in grants] == [
        ("promo", "3.0000"),
        ("promo", "2.0000"),
        ("paid", "1.0000"),
    ]
    assert grants[0]["expires_at"] == "2199-01-01T00:00:00Z"


async def test_every_credit_is_on_record_with_its_reason(admin: Admin, caller: Caller) -> None:
    await credited(admin, caller, "grant", "1.00")
    row, *_ = await audited(admin, target_type="wallet", target_id=caller.user.wallet_id)
    assert (row["action"], row["actor"], row["after"]["reason"]) == ("credit.grant", "admin-key", "because")
    assert row["after"]["spendable"] - row["before"]["spendable"] == NANO


async def test_support_moves_no_money(module_support: Admin, caller: Caller) -> None:
    assert (await module_support.post(f"{path_of(caller)}/credits", order("grant", "1.00"))).status == 403
    assert (await module_support.get(f"{path_of(caller)}/credits")).status == 200


async def test_the_books_hold_after_all_of_this(module_farebox: Farebox) -> None:
    # The hold that one of the tests above left open is still within its time.
    assert [finding.name for finding in await module_farebox.broken() if finding.name != "I10"] == []

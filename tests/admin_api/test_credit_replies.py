"""How credits and entries are shown: each amount in its own currency, signed as it moved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from admin_api.credit_replies import CreditDoneReply, CreditReply, LedgerReply, NewCredit
from ledger.credit_list import ListedCredit
from ledger.statement import StatementLine
from ledger.store import CreditDone

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ID = UUID(int=1)


def shown(reply: Any) -> dict[str, Any]:
    return dict(reply.model_dump(mode="json"))


def amounts(reply: Any) -> tuple[str, int]:
    told = shown(reply)
    return told["amount"], told["amount_tokens"]


@pytest.mark.parametrize(("currency", "told"), [("USD", ("-0.000000007", 0)), ("TOK", ("0.0000", -7))])
def test_an_amount_is_in_its_own_currency(currency: Any, told: tuple[str, int]) -> None:
    credit = ListedCredit(ID, NOW, "deduct", -7, "r", "s", None, "a", ID)
    line = StatementLine(ID, NOW, "deduct", "credit:1", -7, {"promo": -7})
    assert amounts(CreditReply.of(credit, currency)) == amounts(LedgerReply.of(line, currency)) == told


def test_only_the_wallet_that_moved_is_told_of() -> None:
    done = CreditDone(ID, ID, 5, True, 12, 2)
    usd, tokens = shown(CreditDoneReply.of(done, "USD")), shown(CreditDoneReply.of(done, "TOK"))
    assert usd["balance"]["available"] == "0.00000001" and usd["token_balance"] is None
    assert tokens["token_balance"] == {"spendable": 12, "held": 2, "available": 10} and tokens["balance"] is None


def test_a_line_tells_of_which_money_it_was() -> None:
    line = shown(LedgerReply.of(StatementLine(ID, NOW, "charge", "x", -5, {"promo": -2, "paid": -3}), "USD"))
    assert (line["promo"], line["paid"], line["plan"]) == ("-0.000000002", "-0.000000003", "0.0000")


@pytest.mark.parametrize(
    ("body", "units", "takes"),
    [
        ({"kind": "grant", "amount": "1.5"}, 1_500_000_000, False),
        ({"kind": "adjustment", "amount": "-1"}, -1_000_000_000, True),
        ({"kind": "deduct", "tokens": 5}, 5, True),
    ],
)
def test_an_order_knows_what_it_moves_and_which_way(body: dict[str, Any], units: int, takes: bool) -> None:
    order = NewCredit(reason="x", **body)
    assert (order.units, order.takes) == (units, takes)

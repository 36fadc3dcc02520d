"""Charges in replies: money in one set of fields, tokens in the other, never both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from admin_api.charge_replies import ChargeReply, LegReply, RefundReply, WholeChargeReply
from ledger.charge_list import ListedCharge, ShownEntry, ShownLeg, ShownRefund, WholeCharge

_ID = UUID(int=7)
_AT = datetime(2026, 11, 21, tzinfo=UTC)


def _charge(**more: Any) -> ListedCharge:
    values: dict[str, Any] = {
        "request_id": _ID, "rev": "final", "at": _AT, "user_id": _ID, "wallet_id": _ID, "key_id": None, "tier": "pro",
        "model": "m", "route": "chat.completions", "upstream": "u", "task": "", "chat_id": "", "message_id": "m-1",
        "streamed": True, "house": False, "usage": {"input": 5, "cache_read": 2, "reasoning": 3},
        "usage_source": "reported", "problems": [], "price_version": 1, "factor_ppm": 1_000_000, "variant": "",
        "currency": "USD", "amount": 4_200_000, "overrun": 200_000, "outcome": "completed", "entry_id": _ID,
        "ttft_ms": 1, "duration_ms": 2, "refunded": 1_000_000,
    }  # fmt: skip
    return ListedCharge(**{**values, **more})


def test_money_is_shown_in_usd_and_no_tokens_with_it() -> None:
    shown = ChargeReply.of(_charge()).model_dump(mode="json")
    assert (shown["amount"], shown["overrun"], shown["refunded"]) == ("0.0042", "0.0002", "0.0010")
    assert (shown["amount_tokens"], shown["overrun_tokens"], shown["refunded_tokens"]) == (0, 0, 0)


def test_tokens_are_shown_as_numbers_and_no_money_with_them() -> None:
    shown = ChargeReply.of(_charge(currency="TOK", amount=10, overrun=2, refunded=1)).model_dump(mode="json")
    assert (shown["amount"], shown["overrun"], shown["refunded"]) == ("0.0000", "0.0000", "0.0000")
    assert (shown["amount_tokens"], shown["overrun_tokens"], shown["refunded_tokens"]) == (10, 2, 1)


def test_tokens_in_and_out_are_sums_of_their_kinds() -> None:
    shown = ChargeReply.of(_charge())
    assert (shown.input_tokens, shown.cached_tokens, shown.output_tokens) == (7, 2, 3)


def test_a_whole_charge_has_the_last_word_and_everything_behind_it() -> None:
    legs = (ShownLeg("rev:usage", -4_200_000, "USD", None, None),)
    whole = WholeCharge(
        (_charge(rev="provisional", amount=1), _charge()),
        (ShownEntry(_ID, "charge", "ref", _AT, legs),),
        (ShownRefund(_ID, _AT, 1_000_000, 200_000, "kind", "s", "ada", _ID),),
    )
    shown = WholeChargeReply.of_whole(whole).model_dump(mode="json")
    assert shown["amount"] == "0.0042" and [word["amount"] for word in shown["words"]] == ["0.000000001", "0.0042"]
    assert shown["entries"][0]["legs"][0]["amount"] == "-0.0042"
    assert (shown["refunds"][0]["amount"], shown["refunds"][0]["forgiven"]) == ("0.0010", "0.0002")


def test_amounts_in_tokens_are_whole_numbers() -> None:
    leg = LegReply.of(ShownLeg("rev:usage", -60, "TOK", None, None))
    refund = RefundReply.of(ShownRefund(_ID, _AT, 60, 0, "", "s", "ada", _ID), "TOK")
    assert (leg.amount, refund.amount) == ("-60", "60")

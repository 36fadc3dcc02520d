"""How charges are shown: a line of a list, and one call with everything the ledger has of it."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from admin_api.people import ID
from admin_api.wire import Instant, Reply, UsdOut
from ledger.charge_list import ListedCharge, ShownEntry, ShownLeg, ShownRefund, WholeCharge
from ledger.hold import Outcome, Rev
from ledger.journal import CURRENCY
from ledger.money import format_usd
from ledger.usage import INPUT_KINDS, OUTPUT_KINDS, UsageSource

Currency = Literal["USD", "TOK"]

_ALIKE = (
    "at", "user_id", "key_id", "tier", "model", "route", "upstream", "task", "chat_id", "streamed", "house", "outcome",
    "usage_source", "currency", "ttft_ms", "duration_ms",
)  # fmt: skip
_WORD_ALIKE = (
    "rev", "at", "outcome", "usage", "usage_source", "problems", "price_version", "factor_ppm", "variant", "entry_id",
)  # fmt: skip


class ChargeReply(Reply):
    """What a call was charged, by its last word."""

    id: UUID = Field(description="The call's id, `x-request-id`.", examples=[ID])
    at: Instant = Field(description="When it ended.")
    user_id: UUID = Field(description="Whose call.", examples=[ID])
    key_id: UUID | None = Field(description="The key it was made with.", examples=[ID])
    tier: str = Field(description="The tier in force.", examples=["pro"])
    model: str = Field(description="The model that answered.", examples=["gpt-4o-mini"])
    route: str = Field(description="The metered route; `outside`: reported by somebody.", examples=["chat.completions"])
    upstream: str = Field(description="The backend.", examples=["openai"])
    task: str = Field(description="A service's own task; empty: the user's own.", examples=["title_generation"])
    chat_id: str = Field(description="The chat it belongs to.", examples=["c-1"])
    streamed: bool = Field(description="Whether the reply was streamed.", examples=[True])
    house: bool = Field(description="Whether the house bears it (an unlimited tier).", examples=[False])
    outcome: Outcome = Field(description="How the call ended.", examples=["completed"])
    usage_source: UsageSource = Field(description="How well the usage is known.", examples=["reported"])
    input_tokens: int = Field(description="Tokens in, cached ones included.", examples=[120])
    cached_tokens: int = Field(description="Those of them read from a cache.", examples=[0])
    output_tokens: int = Field(description="Tokens out, reasoning included.", examples=[50])
    currency: Currency = Field(description="USD: paid with money; TOK: with an allowance in tokens.", examples=["USD"])
    amount: UsdOut = Field(description="Charged in USD; 0 where it was paid in tokens.", examples=["0.0042"])
    overrun: UsdOut = Field(description="The part of it the wallet did not cover.", examples=["0.0000"])
    refunded: UsdOut = Field(description="What was given back of it.", examples=["0.0000"])
    amount_tokens: int = Field(description="Charged in tokens; 0 where it was paid in money.", examples=[0])
    overrun_tokens: int = Field(description="The part of them the allowance did not cover.", examples=[0])
    refunded_tokens: int = Field(description="What was given back of them.", examples=[0])
    ttft_ms: int | None = Field(description="Milliseconds to the first byte.", examples=[310])
    duration_ms: int | None = Field(description="Milliseconds in all.", examples=[2900])

    @classmethod
    def of(cls, charge: ListedCharge) -> ChargeReply:
        """A charge as it is shown."""
        return cls(**_line(charge))


class WordReply(Reply):
    """One word on a call's charge."""

    rev: Rev = Field(description="provisional: by the last sign of life; final; late: after the horizon.")
    at: Instant = Field(description="When the call ended, as far as this word knows.")
    outcome: Outcome = Field(description="How the call ended.", examples=["completed"])
    usage: dict[str, int] = Field(description="What was consumed, by kind.", examples=[{"input": 120, "output": 50}])
    usage_source: UsageSource = Field(description="How well that is known.", examples=["reported"])
    problems: list[str] = Field(description="What was odd about the backend's report.", examples=[[]])
    price_version: int = Field(
        description="The price it was reckoned by; 0: by an amount, -1: in tokens.", examples=[12]
    )
    factor_ppm: int = Field(description="The tier's markup, in millionths.", examples=[1_000_000])
    variant: str = Field(description="The price's variant; empty: the base price.", examples=[""])
    amount: str = Field(description="Charged, in the charge's currency.", examples=["0.0042"])
    overrun: str = Field(description="The part nobody covered.", examples=["0.0000"])
    entry_id: UUID | None = Field(description="Its entry in the journal; none where nothing moved.", examples=[ID])

    @classmethod
    def of(cls, word: ListedCharge) -> WordReply:
        shown = {name: getattr(word, name) for name in _WORD_ALIKE}
        return cls(amount=_money(word.amount, word.currency), overrun=_money(word.overrun, word.currency), **shown)


class LegReply(Reply):
    """One leg of an entry."""

    account: str = Field(description="Where the money stands.", examples=["rev:usage"])
    amount: str = Field(description="Debits above zero, credits below.", examples=["-0.0042"])
    currency: str = Field(description="Of the amount.", examples=["USD"])
    wallet_id: UUID | None = Field(description="The wallet, where it is one's account.", examples=[ID])
    grant_id: UUID | None = Field(description="The grant it was taken from or given back to.", examples=[ID])

    @classmethod
    def of(cls, leg: ShownLeg) -> LegReply:
        return cls(
            account=leg.account,
            amount=_money(leg.amount, leg.currency),
            currency=leg.currency,
            wallet_id=leg.wallet_id,
            grant_id=leg.grant_id,
        )


class EntryReply(Reply):
    """An entry of the journal: its legs sum to zero."""

    id: UUID = Field(description="Its id.", examples=[ID])
    kind: str = Field(description="charge or refund.", examples=["charge"])
    ref: str = Field(description="What it is for, uniquely.", examples=[f"charge:{ID}:final"])
    booked_at: Instant = Field(description="When it was booked.")
    legs: list[LegReply] = Field(description="Its legs.")

    @classmethod
    def of(cls, entry: ShownEntry) -> EntryReply:
        legs = [LegReply.of(leg) for leg in entry.legs]
        return cls(id=entry.id, kind=entry.kind, ref=entry.ref, booked_at=entry.booked_at, legs=legs)


class RefundReply(Reply):
    """What was given back of a call, once."""

    id: UUID = Field(description="Its id.", examples=[ID])
    at: Instant = Field(description="When.")
    amount: str = Field(description="How much, in the charge's currency.", examples=["0.0042"])
    forgiven: str = Field(description="The part of it that had never been paid.", examples=["0.0000"])
    reason: str = Field(description="Why.", examples=["the answer was cut"])
    actor: str = Field(description="Who decided it.", examples=["ada@example.org"])
    entry_id: UUID = Field(description="Its entry in the journal.", examples=[ID])

    @classmethod
    def of(cls, refund: ShownRefund, currency: str) -> RefundReply:
        return cls(
            id=refund.id,
            at=refund.at,
            amount=_money(refund.amount, currency),
            forgiven=_money(refund.forgiven, currency),
            reason=refund.reason,
            actor=refund.actor,
            entry_id=refund.entry_id,
        )


class WholeChargeReply(ChargeReply):
    """A call's charge with each word on it, its entries, and what was given back."""

    wallet_id: UUID = Field(description="Who paid.", examples=[ID])
    message_id: str = Field(description="The message it answered.", examples=["m-1"])
    words: list[WordReply] = Field(description="Each word on the charge, the last one last.")
    entries: list[EntryReply] = Field(description="What the ledger booked for it.")
    refunds: list[RefundReply] = Field(description="What was given back, the earliest first.")

    @classmethod
    def of_whole(cls, charge: WholeCharge) -> WholeChargeReply:
        """Everything there is."""
        last = charge.last
        return cls(
            **_line(last),
            wallet_id=last.wallet_id,
            message_id=last.message_id,
            words=[WordReply.of(word) for word in charge.words],
            entries=[EntryReply.of(entry) for entry in charge.entries],
            refunds=[RefundReply.of(refund, last.currency) for refund in charge.refunds],
        )


def _line(charge: ListedCharge) -> dict[str, Any]:
    sums = {"amount": charge.amount, "overrun": charge.overrun, "refunded": charge.refunded}
    money, tokens = (sums, dict.fromkeys(sums, 0)) if charge.currency == CURRENCY else (dict.fromkeys(sums, 0), sums)
    return {
        "id": charge.request_id,
        "input_tokens": sum(charge.usage.get(kind, 0) for kind in INPUT_KINDS),
        "cached_tokens": charge.usage.get("cache_read", 0),
        "output_tokens": sum(charge.usage.get(kind, 0) for kind in OUTPUT_KINDS),
        **money,
        **{f"{name}_tokens": value for name, value in tokens.items()},
        **{name: getattr(charge, name) for name in _ALIKE},
    }


def _money(amount: int, currency: str) -> str:
    return format_usd(amount) if currency == CURRENCY else str(amount)

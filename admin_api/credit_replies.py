"""How credits and the ledger of a wallet are asked for and shown."""

from __future__ import annotations

from typing import Any, Literal, cast
from uuid import UUID

from pydantic import Field

from admin_api.balances import AmountsReply, GrantReply, TokenBalanceReply
from admin_api.charge_replies import Currency
from admin_api.people import ID
from admin_api.wire import Body, Instant, Reason, Reply, Usd, UsdOut
from ledger.credit_list import ListedCredit
from ledger.journal import CURRENCY
from ledger.statement import StatementLine
from ledger.store import CreditDone, CreditKind

Kind = Literal["payment", "grant", "adjustment", "refund", "deduct", "merge"]

_TOKENS_MAX = 10**12
_KINDS = (
    "payment: paid in by hand; grant: given; refund: given for something that went wrong; adjustment: corrects, also "
    "downwards; deduct: taken."
)


class NewCredit(Body):
    """What to give or take: money, or tokens of the allowance."""

    kind: CreditKind = Field(description=_KINDS, examples=["grant"])
    amount: Usd | None = Field(
        None, description="USD; above zero but for an adjustment. Either this or tokens.", examples=["5.00"]
    )
    tokens: int | None = Field(
        None,
        strict=True,
        ge=-_TOKENS_MAX,
        le=_TOKENS_MAX,
        description="Tokens. Either this or amount.",
        examples=[None],
    )
    reason: Reason = Field(description="Why; kept in the audit.", examples=["welcome"])
    expires_at: Instant | None = Field(None, description="When what is given ends; null: never.", examples=[None])

    @property
    def units(self) -> int:
        """Nano-USD, or tokens."""
        return self.amount if self.amount is not None else self.tokens or 0

    @property
    def takes(self) -> bool:
        return self.kind == "deduct" or self.units < 0


class CreditReply(Reply):
    """A credit on record."""

    id: UUID = Field(description="Its id.", examples=[ID])
    at: Instant = Field(description="When.")
    kind: Kind = Field(description="What it was; merge: it came from, or went to, a merged account.")
    currency: Currency = Field(description="USD, or TOK: tokens.", examples=["USD"])
    amount: UsdOut = Field(description="USD; below zero where it was taken; 0 for tokens.", examples=["5.0000"])
    amount_tokens: int = Field(description="Tokens; below zero where they were taken; 0 for money.", examples=[0])
    reason: str = Field(description="Why.", examples=["welcome"])
    source: str = Field(description="What did it, once.", examples=["api:admin-key:credit-1"])
    expires_at: Instant | None = Field(description="When what was given ends.")
    actor: str = Field(description="Who did it.", examples=["ada@example.org"])
    entry_id: UUID = Field(description="Its entry in the ledger.", examples=[ID])

    @classmethod
    def of(cls, credit: ListedCredit, currency: Currency) -> CreditReply:
        """A credit as it is shown."""
        alike = ("id", "at", "reason", "source", "expires_at", "actor", "entry_id")
        return cls(
            **{name: getattr(credit, name) for name in alike},
            kind=cast(Kind, credit.kind),
            currency=currency,
            **_amounts(credit.amount, currency),
        )


class CreditDoneReply(Reply):
    """What was given or taken, and what the wallet holds after it."""

    id: UUID = Field(description="The credit's id.", examples=[ID])
    entry_id: UUID = Field(description="Its entry in the ledger.", examples=[ID])
    currency: Currency = Field(description="USD, or TOK: tokens.", examples=["USD"])
    amount: UsdOut = Field(description="USD; below zero where it was taken; 0 for tokens.", examples=["5.0000"])
    amount_tokens: int = Field(description="Tokens; below zero where they were taken; 0 for money.", examples=[0])
    created: bool = Field(description="False: it was done before, under this Idempotency-Key.", examples=[True])
    balance: AmountsReply | None = Field(description="What the wallet of money holds now; null for tokens.")
    token_balance: TokenBalanceReply | None = Field(description="What the wallet of tokens holds now; null for money.")

    @classmethod
    def of(cls, done: CreditDone, currency: Currency) -> CreditDoneReply:
        """What the bank did."""
        usd = currency == CURRENCY
        return cls(
            id=done.id,
            entry_id=done.entry_id,
            currency=currency,
            **_amounts(done.amount, currency),
            created=done.created,
            balance=AmountsReply.of(done.spendable, done.held) if usd else None,
            token_balance=None if usd else TokenBalanceReply.of(done.spendable, done.held),
        )


class LedgerReply(Reply):
    """One entry of the ledger, as the wallet sees it."""

    id: UUID = Field(description="The entry's id.", examples=[ID])
    at: Instant = Field(description="When it was booked.")
    kind: str = Field(description="What moved it: charge, refund, grant, expiry, …", examples=["charge"])
    ref: str = Field(description="What it was booked for, once.", examples=[f"charge:{ID}:final"])
    currency: Currency = Field(description="USD, or TOK: tokens.", examples=["USD"])
    amount: UsdOut = Field(description="USD that came in; below zero: went out; 0 for tokens.", examples=["-0.0042"])
    amount_tokens: int = Field(description="The same in tokens; 0 for money.", examples=[0])
    paid: UsdOut = Field(description="Of the amount, paid-in money.", examples=["-0.0042"])
    promo: UsdOut = Field(description="Of the amount, given money.", examples=["0.0000"])
    plan: UsdOut = Field(description="Of the amount, the period's money.", examples=["0.0000"])

    @classmethod
    def of(cls, line: StatementLine, currency: Currency) -> LedgerReply:
        """A line of a statement."""
        kinds = {kind: line.by_kind.get(kind, 0) if currency == CURRENCY else 0 for kind in ("paid", "promo", "plan")}
        return cls(
            id=line.entry_id,
            at=line.at,
            kind=line.kind,
            ref=line.ref,
            currency=currency,
            **_amounts(line.amount, currency),
            **kinds,
        )


class GrantsReply(Reply):
    """What a wallet holds, grant by grant."""

    data: list[GrantReply] = Field(description="Those that still hold something, in the order in which they are used.")


def _amounts(amount: int, currency: Currency) -> dict[str, Any]:
    usd = currency == CURRENCY
    return {"amount": amount if usd else 0, "amount_tokens": 0 if usd else amount}

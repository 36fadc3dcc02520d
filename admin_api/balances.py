"""How a wallet is shown: what it holds, the grants it holds, what the running period gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from admin_api.charge_replies import Currency
from admin_api.house import AdminHouse
from admin_api.people import ID
from admin_api.wire import Instant, Reply, UsdOut
from ledger.period import Every, Plan, bounds
from ledger.store import Balance, GrantState
from ledger.wallet import GrantKind, token_wallet_id

_BY_KIND = {"paid": "10.0000", "promo": "2.5000"}


class AmountsReply(Reply):
    """What a wallet holds."""

    spendable: UsdOut = Field(description="USD in all.", examples=["12.5000"])
    held: UsdOut = Field(description="Of it, set aside for calls under way.", examples=["0.0100"])
    available: UsdOut = Field(description="What is free.", examples=["12.4900"])

    @classmethod
    def of(cls, spendable: int, held: int) -> AmountsReply:
        return cls(spendable=spendable, held=held, available=spendable - held)


class TokenBalanceReply(Reply):
    """What a wallet of tokens holds."""

    spendable: int = Field(description="Tokens in all.", examples=[1000])
    held: int = Field(description="Of them, set aside for calls under way.", examples=[0])
    available: int = Field(description="What is free.", examples=[1000])

    @classmethod
    def of(cls, spendable: int, held: int) -> TokenBalanceReply:
        return cls(spendable=spendable, held=held, available=spendable - held)


class BalanceReply(AmountsReply):
    """What a wallet holds, and of which kinds."""

    wallet_id: UUID = Field(description="The wallet.", examples=[ID])
    state: Literal["active", "suspended", "closed"] = Field(description="Only an active one may be spent from.")
    by_kind: dict[GrantKind, UsdOut] = Field(
        description="plan: the period's; promo: given; paid: paid in.", examples=[_BY_KIND]
    )

    @classmethod
    def of_wallet(cls, wallet_id: UUID, balance: Balance) -> BalanceReply:
        """A wallet as the bank tells of it."""
        return cls.model_construct(
            None,
            wallet_id=wallet_id,
            state=balance.state,
            spendable=balance.spendable,
            held=balance.held,
            available=balance.available,
            by_kind={kind: amount for kind, amount in sorted(balance.by_kind.items()) if amount},
        )


class GrantReply(Reply):
    """Money or tokens of one kind, with their own end."""

    id: UUID = Field(description="Its id.", examples=[ID])
    kind: GrantKind = Field(description="plan: the period's; promo: given; paid: paid in.", examples=["promo"])
    currency: Currency = Field(description="USD, or TOK: tokens.", examples=["USD"])
    amount: UsdOut = Field(description="What it brought in USD; 0 for tokens.", examples=["5.0000"])
    remaining: UsdOut = Field(description="What is left of it.", examples=["2.5000"])
    amount_tokens: int = Field(description="What it brought in tokens; 0 for money.", examples=[0])
    remaining_tokens: int = Field(description="What is left of them.", examples=[0])
    starts_at: Instant = Field(description="From when on it may be spent.")
    expires_at: Instant | None = Field(description="When it ends; null: never.")
    source: str = Field(description="What brought it, once.", examples=["plan:pro:2026-11-01T00:00:00+00:00"])

    @classmethod
    def of(cls, grant: GrantState, currency: Currency) -> GrantReply:
        """A grant as it stands."""
        usd = currency == "USD"
        return cls(
            id=grant.id,
            kind=grant.kind,
            currency=currency,
            amount=grant.amount if usd else 0,
            remaining=grant.remaining if usd else 0,
            amount_tokens=0 if usd else grant.amount,
            remaining_tokens=0 if usd else grant.remaining,
            starts_at=grant.starts_at,
            expires_at=grant.expires_at,
            source=grant.source,
        )


class AllowanceReply(Reply):
    """What each period gives, and what is left of this one."""

    unit: Literal["usd", "tokens"] = Field(description="Money, or tokens of whatever price.", examples=["usd"])
    amount: UsdOut = Field(description="USD of each period; 0 for tokens.", examples=["5.0000"])
    left: UsdOut = Field(description="USD left of this one.", examples=["4.2000"])
    amount_tokens: int = Field(description="Tokens of each period; 0 for money.", examples=[0])
    left_tokens: int = Field(description="Tokens left of this one.", examples=[0])
    every: Every = Field(description="How long a period is.", examples=["month"])
    resets_at: Instant = Field(description="When the next one begins.")

    @classmethod
    def in_usd(cls, plan: Plan, left: int, now: datetime) -> AllowanceReply:
        """An allowance in money."""
        return cls(unit="usd", amount=plan.amount, left=left, amount_tokens=0, left_tokens=0, **_period(plan, now))

    @classmethod
    def in_tokens(cls, plan: Plan, left: int, now: datetime) -> AllowanceReply:
        """An allowance in tokens."""
        return cls(unit="tokens", amount=0, left=0, amount_tokens=plan.amount, left_tokens=left, **_period(plan, now))


async def allowances(
    house: AdminHouse, wallet_id: UUID, balance: Balance, money: Plan | None, tokens: Plan | None, now: datetime
) -> list[AllowanceReply]:
    """What each period gives: tokens, which are used first, then money."""
    found = []
    if tokens is not None:
        found.append(AllowanceReply.in_tokens(tokens, await _tokens_left(house, wallet_id, tokens), now))
    if money is not None:
        found.append(AllowanceReply.in_usd(money, balance.by_kind.get("plan", 0), now))
    return found


async def grants_of(house: AdminHouse, wallet_id: UUID) -> list[GrantReply]:
    """Every grant of a wallet and of the tokens beside it that still holds something, in the order of burning."""
    money = await house.bank.grants(wallet_id)
    tokens = await house.bank.grants(token_wallet_id(wallet_id))
    return [GrantReply.of(each, "USD") for each in money] + [GrantReply.of(each, "TOK") for each in tokens]


async def _tokens_left(house: AdminHouse, wallet_id: UUID, plan: Plan) -> int:
    """A wallet of tokens is opened by the first call that needs it."""
    try:
        return (await house.bank.balance(token_wallet_id(wallet_id), plan)).available
    except LookupError:
        return plan.amount


def _period(plan: Plan, now: datetime) -> dict[str, Any]:
    return {"every": plan.every, "resets_at": bounds(plan, now)[1]}

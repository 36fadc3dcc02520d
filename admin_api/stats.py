"""The house at a glance, and how many users are active, over HTTP. Everything is read from roll-ups.

Days, weeks and months are those of UTC, and a call belongs to the one in which it was admitted. The newest calls are
counted about a second after they ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import func, select

from accounts.tables import users
from admin_api.access import Reader
from admin_api.house import AdminHouse, House
from admin_api.paging import After, Paging, listed
from admin_api.wire import Instant, Page, Reply, UsdOut
from ledger.figures import Figures, Held, figures, held
from ledger.journal import CURRENCY, TOKENS
from ledger.rollup import periods
from ledger.spans import midnight
from ledger.stats import Active, active

router = APIRouter(prefix="/v1/stats", tags=["statistics"])

Period = Literal["day", "week", "month"]
_NOTHING = Held("", 0, 0, 0)


class PeriodFigures(Reply):
    """One period up to now."""

    since: date = Field(description="Its first day (UTC).", examples=["2026-11-01"])
    calls: int = Field(description="Calls charged.", examples=[1200])
    input_tokens: int = Field(description="Tokens in, cached ones included.", examples=[900_000])
    cached_tokens: int = Field(description="Those of them read from a cache.", examples=[100_000])
    output_tokens: int = Field(description="Tokens out.", examples=[300_000])
    revenue: UsdOut = Field(description="Charged to wallets, without overrun and refunds.", examples=["42.0000"])
    charged: UsdOut = Field(description="Charged in all, the house's own calls included.", examples=["45.0000"])
    list_cost: UsdOut = Field(description="The same without the tiers' markups.", examples=["40.0000"])
    house_cost: UsdOut = Field(description="What the house bore itself (unlimited tiers, tasks).", examples=["2.0000"])
    overrun: UsdOut = Field(description="What no wallet covered.", examples=["0.5000"])
    refunded: UsdOut = Field(description="Money given back in this period.", examples=["0.5000"])
    allowance_tokens: int = Field(description="Tokens charged to allowances in tokens.", examples=[5000])
    refusals: int = Field(description="Calls refused.", examples=[31])

    @classmethod
    def of(cls, told: Figures) -> PeriodFigures:
        usage = told.usage
        return cls(
            since=told.since,
            calls=usage.calls,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            revenue=told.revenue,
            charged=usage.amount,
            list_cost=usage.list_amount,
            house_cost=usage.house_amount,
            overrun=usage.overrun,
            refunded=told.refunded,
            allowance_tokens=told.allowance_tokens,
            refusals=told.refusals,
        )


class UserFigures(Reply):
    """How many users there are, and how many called."""

    total: int = Field(description="Accounts that are not deleted.", examples=[4000])
    suspended: int = Field(description="Those of them that are suspended.", examples=[3])
    new_today: int = Field(description="Made today (UTC).", examples=[2])
    new_this_month: int = Field(description="Made this month.", examples=[50])
    active_today: int = Field(description="Called today.", examples=[300])
    active_this_week: int = Field(description="Called since Monday.", examples=[900])
    active_this_month: int = Field(description="Called this month.", examples=[1500])


class MoneyFigures(Reply):
    """What all wallets hold."""

    liabilities: UsdOut = Field(description="USD in all wallets: what is owed to users.", examples=["1000.0000"])
    held: UsdOut = Field(description="Set aside of it for running calls.", examples=["1.2000"])
    wallets: int = Field(description="Wallets that hold money.", examples=[4000])
    tokens: int = Field(description="Tokens in all allowances.", examples=[80_000])
    tokens_held: int = Field(description="Set aside of them for running calls.", examples=[0])


class Overview(Reply):
    """The house at a glance. Today, this month and this year are those of UTC."""

    at: Instant = Field(description="When this was read.")
    users: UserFigures = Field(description="Users.")
    money: MoneyFigures = Field(description="What wallets hold.")
    today: PeriodFigures = Field(description="Today so far.")
    month: PeriodFigures = Field(description="This month so far.")
    year: PeriodFigures = Field(description="This year so far.")


class ActiveReply(Reply):
    """How many users called in a day, week or month (UTC)."""

    starts: date = Field(description="Its first day; a week's is a Monday.", examples=["2026-11-16"])
    users: int = Field(description="How many.", examples=[900])

    @classmethod
    def of(cls, row: Active) -> ActiveReply:
        return cls(starts=row.starts, users=row.users)


@router.get("/overview", operation_id="get_overview", summary="The house at a glance")
async def get_overview(house: House, caller: Reader) -> Overview:
    """Users, money, and today's, this month's and this year's figures."""
    now = house.now()
    today, month, year = [PeriodFigures.of(each) for each in await figures(house.engine, now)]
    return Overview(
        at=now,
        users=await _users(house, now),
        money=_money(await held(house.engine)),
        today=today,
        month=month,
        year=year,
    )


@router.get("/active", operation_id="list_active", summary="Active users", **listed(ActiveReply))
async def list_active(
    house: House,
    caller: Reader,
    paging: Paging,
    period: Annotated[Period, Query(description="By day, week (from Monday) or month, of UTC.")],
    since: Annotated[date | None, Query(description="Periods that begin on this day or later.")] = None,
    until: Annotated[date | None, Query(description="Periods that begin before this day.")] = None,
) -> Page[ActiveReply] | Response:
    """How many users called in each day, week or month, the newest first."""

    async def fetch(after: After, limit: int) -> list[Active]:
        before = after[0] if after else None
        return await active(house.engine, period, since=since, until=until, before=before, limit=limit)

    return await paging.answer(
        "active-users", fetch, key=lambda row: (row.starts,), types=(date,), shape=ActiveReply.of, model=ActiveReply
    )


async def _users(house: AdminHouse, now: datetime) -> UserFigures:
    day = now.astimezone(UTC).date()
    live = users.c.status != "deleted"
    query = select(
        func.count(),
        func.count().filter(users.c.status == "suspended"),
        func.count().filter(users.c.created_at >= midnight(day)),
        func.count().filter(users.c.created_at >= midnight(day.replace(day=1))),
    ).where(live)
    async with house.engine.connect() as connection:
        total, suspended, today, month = (await connection.execute(query)).one()
    called = {period: await _active(house, period, first) for period, first in periods(day)}
    return UserFigures(
        total=total,
        suspended=suspended,
        new_today=today,
        new_this_month=month,
        active_today=called["day"],
        active_this_week=called["week"],
        active_this_month=called["month"],
    )


async def _active(house: AdminHouse, period: str, first: date) -> int:
    """How many called in the period that began on this day."""
    rows = await active(house.engine, period, since=first, until=None, before=None, limit=1)
    return rows[0].users if rows else 0


def _money(wallets: Iterable[Held]) -> MoneyFigures:
    by_currency = {each.currency: each for each in wallets}
    money, tokens = by_currency.get(CURRENCY, _NOTHING), by_currency.get(TOKENS, _NOTHING)
    return MoneyFigures(
        liabilities=money.spendable,
        held=money.held,
        wallets=money.wallets,
        tokens=tokens.spendable,
        tokens_held=tokens.held,
    )

"""Usage and refusals over HTTP, by time and by what they were of. Everything is read from roll-ups.

Spans are whole hours of UTC (by user a month or a year), and a call belongs to the hour in which it was admitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field

from accounts.users import User
from admin_api.access import Reader
from admin_api.charge_replies import Currency
from admin_api.house import AdminHouse, House
from admin_api.paging import After, Pager, Paging, listed
from admin_api.people import ID
from admin_api.problems import wrong_parameter
from admin_api.wire import Instant, Page, Reply, Text, UsdOut
from ledger import stats
from ledger.journal import CURRENCY
from ledger.spans import Grain, first_of, following, is_whole
from ledger.stats import Labels, LabelUsage, Refused, TimeUsage, UserUsage

router = APIRouter(prefix="/v1/stats", tags=["statistics"])

GroupBy = Literal["hour", "day", "month", "model", "tier", "task", "user"]
RefusedBy = Literal["hour", "day", "month", "code", "tier"]
Row = TypeVar("Row")

_SPANS: dict[str, timedelta] = {"hour": timedelta(days=31), "day": timedelta(days=400)}
_SPAN_MAX = timedelta(days=366 * 10)


class Span(NamedTuple):
    """From when to when statistics are asked for."""

    since: datetime
    until: datetime


class UsageReply(Reply):
    """What was used in one hour, day or month, or of one model, tier, task or user."""

    starts: Instant | None = Field(description="Where the hour, day or month begins (UTC).")
    label: str | None = Field(description="The model, tier or task.", examples=["gpt-4o-mini"])
    user_id: UUID | None = Field(description="The user.", examples=[ID])
    email: str | None = Field(description="The user's address.", examples=["ada@example.org"])
    name: str | None = Field(description="The user's name.", examples=["Ada Lovelace"])
    calls: int = Field(description="Calls charged.", examples=[120])
    input_tokens: int = Field(description="Tokens in, cached ones included.", examples=[90_000])
    cached_tokens: int = Field(description="Those of them read from a cache.", examples=[10_000])
    output_tokens: int = Field(description="Tokens out.", examples=[30_000])
    amount: UsdOut | None = Field(description="Charged in USD.", examples=["4.5000"])
    amount_tokens: int | None = Field(description="Charged in tokens, where they were asked for.", examples=[None])
    list_cost: UsdOut | None = Field(description="The same without markups; not by user.", examples=["4.0000"])
    house_cost: UsdOut | None = Field(description="What the house bore of it; not by user.", examples=["0.2000"])
    overrun: UsdOut | None = Field(description="What no wallet covered; not by user.", examples=["0.0500"])

    @classmethod
    def of(cls, row: TimeUsage | LabelUsage | UserUsage, currency: str, known: dict[UUID, User]) -> UsageReply:
        """A row of either kind; ``known`` are the users by id."""
        money = currency == CURRENCY
        user_id = getattr(row, "user_id", None)
        user = known.get(user_id) if user_id else None
        return cls(
            starts=getattr(row, "starts", None),
            label=getattr(row, "label", None),
            user_id=user_id,
            email=user.email if user else None,
            name=user.name if user else None,
            calls=row.calls,
            input_tokens=row.input_tokens,
            cached_tokens=row.cached_tokens,
            output_tokens=row.output_tokens,
            amount=row.amount if money else None,
            amount_tokens=None if money else row.amount,
            list_cost=getattr(row, "list_amount", None) if money else None,
            house_cost=getattr(row, "house_amount", None) if money else None,
            overrun=getattr(row, "overrun", None) if money else None,
        )


class RefusalsReply(Reply):
    """How many calls were refused in one hour, day or month, or with one code, or under one tier."""

    starts: Instant | None = Field(description="Where the hour, day or month begins (UTC).")
    label: str | None = Field(description="The code or tier.", examples=["insufficient_balance"])
    refusals: int = Field(description="How many.", examples=[31])

    @classmethod
    def of(cls, row: Refused) -> RefusalsReply:
        return cls(starts=row.starts, label=row.label, refusals=row.refusals)


_Since = Annotated[Instant | None, Query(description="From this whole hour on; by hour the last day, else this month.")]
_Until = Annotated[Instant | None, Query(description="Up to this whole hour; left out: up to now.")]


@router.get("/usage", operation_id="list_usage", summary="Usage by time or kind", **listed(UsageReply))
async def list_usage(
    house: House,
    caller: Reader,
    paging: Paging,
    group_by: Annotated[GroupBy, Query(description="What each row is of.")],
    since: _Since = None,
    until: _Until = None,
    currency: Annotated[Currency, Query(description="Paid with money, or with allowances in tokens.")] = "USD",
    model: Annotated[Text | None, Query(description="Of this model; not by user.")] = None,
    tier: Annotated[Text | None, Query(description="Under this tier; not by user.")] = None,
    task: Annotated[Text | None, Query(description="For this task; empty: users' own calls; not by user.")] = None,
) -> Page[UsageReply] | Response:
    """By time, the earliest first; else the dearest first. By user of one month or one calendar year."""
    labels = Labels(model, tier, task)
    if group_by == "user":
        return await _by_user(house, paging, *_period(house, since, until), currency, labels)
    span = _span(house, group_by, since, until)
    match group_by:
        case "hour" | "day" | "month":
            return await _by_time(house, paging, group_by, span, currency, labels)
        case "model" | "tier" | "task":
            rows = await stats.usage_by_label(house.engine, group_by, *span, currency, labels)

    async def fetch(after: After, limit: int) -> Sequence[LabelUsage]:
        return _behind(rows, lambda row: (-row.amount, row.label), after and (-after[0], after[1]), limit)

    return await paging.answer(
        f"usage-by-{group_by}",
        fetch,
        key=lambda row: (row.amount, row.label),
        types=(int, str),
        shape=lambda row: UsageReply.of(row, currency, {}),
        model=UsageReply,
    )


@router.get("/refusals", operation_id="list_refusals", summary="Refusals by time or kind", **listed(RefusalsReply))
async def list_refusals(
    house: House,
    caller: Reader,
    paging: Paging,
    group_by: Annotated[RefusedBy, Query(description="What each row is of.")],
    since: _Since = None,
    until: _Until = None,
) -> Page[RefusalsReply] | Response:
    """By time, the earliest first; else the most frequent first."""
    span = _span(house, group_by, since, until)
    match group_by:
        case "code" | "tier":
            rows = await stats.refusals_by_label(house.engine, group_by, *span)
        case "hour" | "day" | "month":
            rows = await stats.refusals_by_time(house.engine, group_by, *span)

    async def fetch(after: After, limit: int) -> Sequence[Refused]:
        return _behind(rows, _place, after, limit)

    return await paging.answer(
        f"refusals-by-{group_by}",
        fetch,
        key=_place,
        types=(int, str) if group_by in ("code", "tier") else (datetime,),
        shape=RefusalsReply.of,
        model=RefusalsReply,
    )


async def _by_time(
    house: AdminHouse, paging: Pager, grain: Grain, span: Span, currency: Currency, labels: Labels
) -> Page[UsageReply] | Response:
    rows = await stats.usage_by_time(house.engine, grain, *span, currency, labels)

    async def fetch(after: After, limit: int) -> Sequence[TimeUsage]:
        return _behind(rows, lambda row: (row.starts,), after, limit)

    return await paging.answer(
        f"usage-by-{grain}",
        fetch,
        key=lambda row: (row.starts,),
        types=(datetime,),
        shape=lambda row: UsageReply.of(row, currency, {}),
        model=UsageReply,
    )


async def _by_user(
    house: AdminHouse, paging: Pager, period: stats.Period, starts: date, currency: Currency, labels: Labels
) -> Page[UsageReply] | Response:
    for name in ("model", "tier", "task"):
        if getattr(labels, name) is not None:
            raise wrong_parameter(name, "is not known by user; look at the user's charges")
    known: dict[UUID, User] = {}

    async def fetch(after: After, limit: int) -> Sequence[UserUsage]:
        behind = (after[0], after[1]) if after else None
        rows = await stats.usage_by_user(house.engine, period, starts, currency, after=behind, limit=limit)
        known.clear()
        known.update(await house.accounts.find_users([row.user_id for row in rows]))
        return rows

    return await paging.answer(
        "usage-by-user",
        fetch,
        key=lambda row: (row.amount, row.user_id),
        types=(int, UUID),
        shape=lambda row: UsageReply.of(row, currency, known),
        model=UsageReply,
    )


def _span(house: AdminHouse, group_by: str, since: datetime | None, until: datetime | None) -> Span:
    """The span asked for, in whole hours. Raises Problem 422."""
    now = house.now()
    end = following("hour", first_of("hour", now)) if until is None else until
    if since is not None:
        begin = since
    else:
        begin = end - timedelta(days=1) if group_by == "hour" else first_of("month", min(now, end))
    for name, instant in (("since", begin), ("until", end)):
        if not is_whole("hour", instant):
            raise wrong_parameter(name, "must be where an hour begins (UTC)")
    longest = _SPANS.get(group_by, _SPAN_MAX)
    if not timedelta() < end - begin <= longest:
        raise wrong_parameter("until", f"must be later than since, by at most {longest.days} days")
    return Span(begin, end)


def _period(house: AdminHouse, since: datetime | None, until: datetime | None) -> tuple[stats.Period, date]:
    """The month or year asked for. The running one may be asked for up to now. Raises Problem 422."""
    now = house.now()
    begin = first_of("month", now) if since is None else since
    end = following("month", first_of("month", now)) if until is None else until
    if not is_whole("month", begin):
        raise wrong_parameter("since", "must be where a month begins (UTC)")
    month_ends, year_ends = following("month", begin), begin.replace(year=begin.year + 1)
    if _ends(end, month_ends, now):
        return "month", begin.date()
    if begin.month == 1 and _ends(end, year_ends, now):
        return "year", begin.date()
    raise wrong_parameter("until", "by user one month or one calendar year can be asked for")


def _ends(end: datetime, period_ends: datetime, now: datetime) -> bool:
    """Whether a span that ends there has everything of its period so far."""
    return end == period_ends or now < end < period_ends


def _place(row: Refused) -> tuple[Any, ...]:
    return (row.starts,) if row.label is None else (-row.refusals, row.label)


def _behind(
    rows: Sequence[Row], place: Callable[[Row], tuple[Any, ...]], after: tuple[Any, ...] | None, limit: int
) -> Sequence[Row]:
    """At most ``limit`` rows that stand behind a place; rows are in the order of their places."""
    left = rows if after is None else [row for row in rows if place(row) > after]
    return left[:limit]

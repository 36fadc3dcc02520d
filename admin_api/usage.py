"""What one user used: by hour, day or month, and by model. Days and months are UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query
from pydantic import Field

from admin_api.access import Reader
from admin_api.charge_replies import Currency
from admin_api.house import AdminHouse, House
from admin_api.people import TheUser
from admin_api.problems import wrong_parameter
from admin_api.wire import Instant, Reply, UsdOut
from ledger.journal import CURRENCY
from ledger.spans import Grain
from ledger.usage_read import SPAN_MAX, ModelUsage, UserUsage, ids_of, used, used_by_model

router = APIRouter(prefix="/v1/users/{user_id}/usage", tags=["users"])

_USUAL: dict[Grain, timedelta] = {"hour": timedelta(days=1), "day": timedelta(days=30), "month": timedelta(days=365)}

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)

Since = Annotated[Instant | None, Query(description="From the hour, day or month of this instant on.")]
Until = Annotated[Instant | None, Query(description="Before this instant; left out: until now.")]


class Span(NamedTuple):
    """From when to when."""

    since: datetime
    until: datetime


class _Sums(Reply):
    currency: Currency = Field(description="USD: paid with money; TOK: with an allowance in tokens.", examples=["USD"])
    calls: int = Field(description="Calls charged.", examples=[12])
    input_tokens: int = Field(description="Tokens in, cached ones included.", examples=[9000])
    cached_tokens: int = Field(description="Those of them read from a cache.", examples=[1000])
    output_tokens: int = Field(description="Tokens out.", examples=[3000])
    amount: UsdOut = Field(description="Charged in USD; 0 where tokens paid.", examples=["0.4500"])
    amount_tokens: int = Field(description="Charged in tokens; 0 where money paid.", examples=[0])


class StepReply(_Sums):
    """What was used in one hour, day or month."""

    starts: Instant = Field(description="When it begins.")


class ModelUsed(_Sums):
    """What was used of one model."""

    model: str = Field(description="The model.", examples=["gpt-4o-mini"])
    task: str = Field(description="A service's own task; empty: the user's own calls.", examples=[""])


class UserUsageReply(Reply):
    """What a user used, step by step."""

    by: Grain = Field(description="How long a step is.", examples=["day"])
    since: Instant = Field(description="From when on.")
    until: Instant = Field(description="Until when.")
    data: list[StepReply] = Field(description="Steps in which something was used, the earliest first.")


class ModelUsageReply(Reply):
    """What a user used, model by model."""

    since: Instant = Field(description="From when on.")
    until: Instant = Field(description="Until when.")
    data: list[ModelUsed] = Field(description="The dearest first.")


@router.get("", operation_id="get_user_usage", summary="A user's usage over time")
async def get_user_usage(
    house: House,
    caller: Reader,
    user: TheUser,
    by: Annotated[Grain, Query(description="hour: at most 7 days; day: 400 days; month: ten years.")] = "day",
    since: Since = None,
    until: Until = None,
) -> UserUsageReply:
    """Identities merged into the user included. By day and month the newest calls come a second or so later."""
    span = _span(house, by, since, until)
    rows = await used(house.engine, await ids_of(house.engine, user.id), by, *span)
    return UserUsageReply(by=by, since=span.since, until=span.until, data=[_step(row) for row in rows])


@router.get("/models", operation_id="get_user_usage_by_model", summary="A user's usage by model")
async def get_user_usage_by_model(
    house: House, caller: Reader, user: TheUser, since: Since = None, until: Until = None
) -> ModelUsageReply:
    """On whole days, the last thirty where nothing else is said; at most 400."""
    span = _span(house, "day", since, until)
    rows = await used_by_model(house.engine, await ids_of(house.engine, user.id), *span)
    return ModelUsageReply(since=span.since, until=span.until, data=[_model(row) for row in rows])


def _span(house: AdminHouse, by: Grain, since: datetime | None, until: datetime | None) -> Span:
    """Raises Problem 422 for a span that is too long, or that ends before it begins."""
    end = until or house.now()
    begin = since or max(_FIRST, end - _USUAL[by])
    if begin > end:
        raise wrong_parameter("since", "must not lie behind until")
    if end - begin > SPAN_MAX[by]:
        raise wrong_parameter("since", f"by {by} at most {SPAN_MAX[by].days} days can be asked for")
    return Span(begin, end)


def _step(row: UserUsage) -> StepReply:
    return StepReply.model_construct(None, starts=row.starts, **_sums(row))


def _model(row: ModelUsage) -> ModelUsed:
    return ModelUsed.model_construct(None, model=row.model, task=row.task, **_sums(row))


def _sums(row: UserUsage | ModelUsage) -> dict[str, int | str]:
    usd = row.currency == CURRENCY
    alike = {name: getattr(row, name) for name in ("currency", "calls", "input_tokens", "cached_tokens")}
    amounts = {"amount": row.amount if usd else 0, "amount_tokens": 0 if usd else row.amount}
    return {**alike, "output_tokens": row.output_tokens, **amounts}

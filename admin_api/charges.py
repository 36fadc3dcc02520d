"""Charges over HTTP: listed, read with everything behind them, given back."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field

from admin_api.access import Reader, Writer
from admin_api.charge_replies import ChargeReply, Currency, RefundReply, WholeChargeReply
from admin_api.house import AdminHouse, House
from admin_api.once import Source
from admin_api.paging import After, Paging, listed
from admin_api.problems import conflict, declared, not_found, wrong_field, wrong_parameter
from admin_api.wire import Body, Instant, Page, Reason, Text, UsdAbove0, UsdFrom0
from ledger.charge_list import ChargeFilter, ListedCharge, WholeCharge, whole_charge
from ledger.charge_list import charges as read_charges
from ledger.hold import Outcome
from ledger.journal import CURRENCY
from ledger.money import format_usd
from ledger.store import CallRunning, RefundTooLarge
from ledger.usage import UsageSource
from ledger.usage_read import ids_of

router = APIRouter(prefix="/v1/charges", tags=["charges"])

_RETRY_S = 15


class Refund(Body):
    """What to give back of a call."""

    amount: UsdAbove0 | None = Field(None, description="USD; left out: all that is left.", examples=["0.0042"])
    tokens: int | None = Field(
        None, ge=1, le=10**15, description="Of a call paid with an allowance in tokens.", examples=[None]
    )
    reason: Reason = Field(description="Why; kept in the audit.", examples=["the answer was cut"])


@router.get("", operation_id="list_charges", summary="List charges", **listed(ChargeReply))
async def list_charges(
    house: House,
    caller: Reader,
    paging: Paging,
    user: Annotated[UUID | None, Query(description="Of this user and those merged into it.")] = None,
    key: Annotated[UUID | None, Query(description="Made with this key.")] = None,
    model: Annotated[Text | None, Query(description="Of this model.", examples=["gpt-4o-mini"])] = None,
    tier: Annotated[Text | None, Query(description="Under this tier.", examples=["pro"])] = None,
    task: Annotated[Text | None, Query(description="For this task; empty: the user's own calls.")] = None,
    route: Annotated[Text | None, Query(description="Over this route.", examples=["chat.completions"])] = None,
    chat: Annotated[Text | None, Query(description="Of this chat.", examples=["c-1"])] = None,
    message: Annotated[Text | None, Query(description="Of this answer in a chat.", examples=["m-1"])] = None,
    outcome: Annotated[Outcome | None, Query(description="Ended so.")] = None,
    usage_source: Annotated[UsageSource | None, Query(description="Usage known so well.")] = None,
    currency: Annotated[Currency | None, Query(description="Paid with money or with tokens.")] = None,
    min_amount: Annotated[UsdFrom0 | None, Query(description="At least so much in USD.", examples=["1.00"])] = None,
    since: Annotated[Instant | None, Query(description="Begun at this instant or later.")] = None,
    until: Annotated[Instant | None, Query(description="Begun before this instant.")] = None,
) -> Page[ChargeReply] | Response:
    """What calls were charged, the newest call first; each call once, by its last word."""
    if min_amount is not None and currency not in (None, CURRENCY):
        raise wrong_parameter("min_amount", "is in USD, and currency asks for something else")
    wanted = ChargeFilter(
        users=await ids_of(house.engine, user) or [user] if user else (),
        key_id=key,
        model=model,
        tier=tier,
        task=task,
        route=route,
        chat_id=chat,
        message_id=message,
        outcome=outcome,
        usage_source=usage_source,
        currency=currency if min_amount is None else CURRENCY,
        min_amount=min_amount,
        since=since,
        until=until,
    )

    async def fetch(after: After, limit: int) -> list[ListedCharge]:
        return await read_charges(house.engine, wanted, before=after[0] if after else None, limit=limit)

    return await paging.answer(
        "charges",
        fetch,
        key=lambda charge: (charge.request_id,),
        types=(UUID,),
        shape=ChargeReply.of,
        model=ChargeReply,
    )


@router.get("/{charge_id}", operation_id="get_charge", summary="Read a charge")
async def get_charge(house: House, caller: Reader, charge_id: UUID) -> WholeChargeReply:
    """Everything the ledger has of one call."""
    return WholeChargeReply.of_whole(await found(house, charge_id))


@router.post(
    "/{charge_id}/refund",
    operation_id="refund_charge",
    summary="Refund a charge",
    status_code=201,
    responses=declared(404, 409),
)
async def refund_charge(house: House, caller: Writer, charge_id: UUID, body: Refund, source: Source) -> RefundReply:
    """Give back what a call was charged, or a part of it, to where it was taken from; what nobody paid is forgiven
    first. The same Idempotency-Key gives it back once."""
    charge = await found(house, charge_id)
    currency = charge.last.currency
    if body.amount is not None and currency != CURRENCY:
        raise wrong_field("amount", "this call was paid with tokens; say tokens")
    if body.tokens is not None and currency == CURRENCY:
        raise wrong_field("tokens", "this call was paid with money; say amount")
    try:
        done = await house.bank.refund(
            charge_id, body.amount or body.tokens, reason=body.reason, source=source, by=caller.actor
        )
    except RefundTooLarge as error:
        left = format_usd(error.left) if currency == CURRENCY else str(error.left)
        raise conflict(
            f"Of this call {left} {currency} is left to give back.", code="nothing-left", left=left
        ) from None
    except CallRunning:
        raise conflict("The call has not ended yet. Try again.", code="call-running", retry_after_s=_RETRY_S) from None
    except LookupError:
        raise not_found() from None
    refunds = (await found(house, charge_id)).refunds
    return RefundReply.of(next(refund for refund in refunds if refund.id == done.id), currency)


async def found(house: AdminHouse, charge_id: UUID) -> WholeCharge:
    """The charge. Raises Problem 404."""
    charge = await whole_charge(house.engine, charge_id)
    if charge is None:
        raise not_found()
    return charge

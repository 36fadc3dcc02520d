"""Charges from outside over HTTP: work that was done elsewhere, charged once for each ref.

An admin may charge anybody; a Farebox key with the scope ``charges`` those it speaks for: its own user, or the users of
its service's realm. What it may not charge looks like what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field, model_validator

from accounts.standing import NoTier, Standing, stand
from accounts.users import User
from admin_api.access import Caller, Charger
from admin_api.charge_replies import ChargeReply
from admin_api.charges import found
from admin_api.house import AdminHouse, House
from admin_api.people import ID
from admin_api.problems import conflict, declared, too_many, unavailable, wrong_field
from admin_api.wire import Body, Instant, Name, Text, UsdAbove0
from config.price_versions import price_at
from ledger.charge_list import ListedCharge
from ledger.hold import CallFacts
from ledger.journal import TOKENS
from ledger.money import NANO, format_usd
from ledger.outside_sql import AHEAD_MAX
from ledger.price import PPM, TOKEN_PRICE, Price, charge_amount
from ledger.store import MonthClosed, NotEnough, OutsideDone, OutsideOrder
from ledger.usage import KINDS, TOKEN_KINDS, Usage
from ledger.usage_read import ids_of
from ledger.wallet import token_wallet_id
from policies.buckets import Ask, BucketsBusy, BucketsUnavailable
from policies.decision import Deny
from policies.tier import Window

router = APIRouter(prefix="/v1/charges", tags=["charges"])

ROUTE = "outside"
KEY_LIMIT = Window(600, "requests", 60, scope="charges")
"""How many charges one key may book."""

_PAST_MAX = timedelta(days=366)
_UNITS_MAX = 10**12
_AMOUNT_MAX = 9_000_000 * NANO


def _units(description: str) -> Any:
    return Field(0, ge=0, le=_UNITS_MAX, description=description, examples=[0])


class UsageBody(Body):
    """What was consumed, in disjoint parts: every token stands in one of them."""

    input: int = _units("Tokens in that are none of the following.")
    cache_read: int = _units("Tokens in that were read from a cache.")
    cache_write: int = _units("Tokens in that were written to a cache.")
    cache_write_1h: int = _units("Tokens in that were written to a cache for an hour.")
    audio_in: int = _units("Tokens of audio in.")
    image_in: int = _units("Tokens of pictures in.")
    output: int = _units("Tokens out that are none of the following.")
    reasoning: int = _units("Tokens of reasoning.")
    audio_out: int = _units("Tokens of audio out.")
    web_searches: int = _units("Searches made.")
    images: int = _units("Pictures made.")
    seconds: int = _units("Seconds heard or spoken.")
    characters: int = _units("Characters spoken.")


class OutsideCharge(Body):
    """Work to charge: by its usage, at the model's price and the tier's markup, or by its amount."""

    ref: Name = Field(description="Your own name for this work; charged once.", examples=["job-2026-11-21-0001"])
    user: Name = Field(description="Id, subject or e-mail address.", examples=[ID])
    model: Name = Field(description="The model that did it.", examples=["gpt-4o-mini"])
    usage: UsageBody | None = Field(
        None, description="What was consumed; else say amount.", examples=[{"input": 120, "output": 50}]
    )
    amount: UsdAbove0 | None = Field(None, description="What it costs in USD; else say usage.", examples=[None])
    variant: Text = Field("", description="The price's variant, like batch; of a usage.", examples=[""])
    at: Instant | None = Field(None, description="When it was done, at most a year ago; left out: now.")
    task: Text = Field("", description="A service's own task; empty: the user's own.", examples=["nightly"])
    must_cover: bool = Field(
        False, description="Charge all or nothing; else what the wallet does not cover is overrun.", examples=[False]
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> OutsideCharge:
        if (self.usage is None) == (self.amount is None):
            raise ValueError("say either usage or amount")
        if self.usage is not None and self.used == Usage():
            raise ValueError("usage: says that nothing was consumed")
        if self.amount is not None and self.variant:
            raise ValueError("variant: belongs to a usage")
        return self

    @property
    def used(self) -> Usage:
        return Usage() if self.usage is None else Usage(**self.usage.model_dump())


class OutsideReply(ChargeReply):
    """The charge of a ref."""

    ref: str = Field(description="Your own name for the work.", examples=["job-2026-11-21-0001"])
    created: bool = Field(description="False: it was charged before, and this is what was charged then.")


_SEEN = {"description": "This ref was charged before: what was charged then.", "model": OutsideReply}


@router.post(
    "",
    operation_id="charge_outside",
    summary="Charge work done elsewhere",
    status_code=201,
    responses={200: _SEEN, **declared(409)},
)
async def charge_outside(house: House, caller: Charger, body: OutsideCharge, response: Response) -> OutsideReply:
    """Charge a user once for each ref. The same ref again gives the first result; with other content it is refused."""
    if caller.key_id is not None:
        await _bounded(house, caller, caller.key_id)
    now = house.now()
    _check_time(body, now)
    user = await _user(house, caller, body.user)
    standing = _standing(house, user, now)
    at = body.at or now
    order = _order(caller, body, user, standing, await _price(house, body, at), at)
    _check_amount(order)
    done = await _charge(house, caller, order, standing)
    charge = await found(house, done.request_id)
    if not done.created:
        _check_same(body, await ids_of(house.engine, user.id), charge.last)
        response.status_code = 200
    line = ChargeReply.of(charge.last)
    shown = {name: getattr(line, name) for name in ChargeReply.model_fields}
    return OutsideReply(**shown, ref=body.ref, created=done.created)


async def _charge(house: AdminHouse, caller: Caller, order: OutsideOrder, standing: Standing) -> OutsideDone:
    """Tokens pay for what consumed tokens alone, where the tier gives some and they are enough; else money pays."""
    try:
        if (tokens := _in_tokens(order, standing)) is not None:
            await house.bank.open_wallet(tokens.wallet_id, TOKENS)
            with suppress(NotEnough):
                return await house.bank.charge_outside(tokens, caller.actor)
        return await house.bank.charge_outside(order, caller.actor)
    except NotEnough as error:
        left = format_usd(error.available)
        raise conflict(f"The wallet has {left} USD free, which does not cover it.", available=left) from None
    except MonthClosed as error:
        raise conflict(f"Nothing can be charged into it: {error}.", code="month-closed") from None


def _order(
    caller: Caller, body: OutsideCharge, user: User, standing: Standing, price: Price | None, at: datetime
) -> OutsideOrder:
    facts = CallFacts(
        user_id=user.id,
        tier=standing.tier.name,
        model=body.model,
        route=ROUTE,
        key_id=caller.key_id,
        task=body.task,
        house=standing.tier.unlimited,
    )
    return OutsideOrder(
        ref=body.ref,
        wallet_id=standing.wallet_id,
        facts=facts,
        usage=body.used,
        price=price,
        factor_ppm=standing.tier.markup_ppm if price else PPM,
        variant=body.variant,
        amount=body.amount,
        at=at,
        plan=standing.money_plan,
        must_cover=body.must_cover,
    )


def _in_tokens(order: OutsideOrder, standing: Standing) -> OutsideOrder | None:
    """The same work, paid with the tier's allowance in tokens; None where it has none, or they cannot pay for it."""
    plan = standing.token_plan
    other = any(getattr(order.usage, kind) for kind in KINDS if kind not in TOKEN_KINDS)
    if plan is None or order.price is None or other or order.facts.house:
        return None
    return replace(
        order,
        wallet_id=token_wallet_id(standing.wallet_id),
        price=TOKEN_PRICE,
        factor_ppm=PPM,
        variant="",
        plan=plan,
        must_cover=True,
    )


async def _bounded(house: AdminHouse, caller: Caller, key_id: UUID) -> None:
    """Count this charge of a key. Raises Problem 429."""
    ask = Ask(f"charges:{key_id}", str(key_id), str(caller.actor.request_id), rules=((KEY_LIMIT, 1),))
    try:
        answer = await house.buckets.admit(ask)
        if not isinstance(answer, Deny):
            return await house.buckets.correct(answer, (1,))
    except (BucketsUnavailable, BucketsBusy):
        raise unavailable("The place where limits are counted does not answer. Nothing was charged.") from None
    raise too_many(
        f"A key books at most {KEY_LIMIT.limit} charges in {KEY_LIMIT.seconds} s.", -(-answer.retry_after_ms // 1000)
    )


async def _user(house: AdminHouse, caller: Caller, who: str) -> User:
    """Whom to charge: of a merged identity, the account that goes on for it. Raises Problem 422, in the same words for
    who is not there and for who is not this key's to charge."""
    user = await house.accounts.find_user(who)
    if user is not None and caller.key_id is not None and not await _speaks_for(house, caller.key_id, user):
        user = None
    if user is not None and user.merged_into is not None:
        user = await house.accounts.user(user.merged_into)
    if user is None:
        raise wrong_field("user", "nobody, or more than one, answers to this")
    return user


async def _speaks_for(house: AdminHouse, key_id: UUID, user: User) -> bool:
    key = await house.accounts.find_key(key_id)
    if key is None:
        return False
    return key.user_id == user.id if key.user_id is not None else key.realm == user.realm


def _standing(house: AdminHouse, user: User, now: datetime) -> Standing:
    try:
        return stand(user, house.catalog(), house.settings.default_tier, now)
    except NoTier as error:
        raise conflict(f"This user cannot be charged: {error}.", code="no-tier") from None


async def _price(house: AdminHouse, body: OutsideCharge, at: datetime) -> Price | None:
    """The price in force when the work was done; None for work charged by its amount. Raises Problem 422."""
    if body.usage is None:
        return None
    price = await price_at(house.engine, body.model, at)
    if price is None:
        raise wrong_field("model", "had no price then; say amount, or give it one")
    if body.variant and price.known_variant(body.variant) != body.variant:
        raise wrong_field("variant", "is not one of this price")
    return price


def _check_time(body: OutsideCharge, now: datetime) -> None:
    if body.at is not None and not now - _PAST_MAX <= body.at <= now + AHEAD_MAX:
        raise wrong_field("at", "must lie in the past, at most a year ago")


def _check_amount(order: OutsideOrder) -> None:
    if order.price and charge_amount(order.usage, order.price, order.factor_ppm, order.variant) > _AMOUNT_MAX:
        raise wrong_field("usage", "costs more than one charge may")


def _check_same(body: OutsideCharge, users: Sequence[UUID], charge: ListedCharge) -> None:
    """Raises Problem 409 where the ref was used for other work."""
    same = charge.user_id in users and (charge.model, charge.task) == (body.model, body.task)
    same = same and Usage(**charge.usage) == body.used and body.amount in (None, charge.amount)
    # What tokens paid for was not priced by a variant.
    same = same and (charge.currency == TOKENS or charge.variant == body.variant)
    if not same or body.at not in (None, charge.at):
        raise conflict(f"The ref {body.ref} was charged before, for other work.", code="ref-taken")

"""Money given and taken by hand, and the books of a wallet: its credits, its ledger, its grants.

A user's credits go into the user's own wallet, also while it spends from one its group shares; a group's into the
group's. What is done here to a wallet, ``group_money.py`` does to a group's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from admin_api.access import Caller, Reader, Writer
from admin_api.balances import grants_of
from admin_api.charge_replies import Currency
from admin_api.credit_replies import CreditDoneReply, CreditReply, GrantsReply, LedgerReply, NewCredit
from admin_api.house import AdminHouse, House
from admin_api.once import Source
from admin_api.paging import After, Pager, Paging, listed
from admin_api.people import TheUser
from admin_api.problems import Problem, conflict, told, wrong_field
from admin_api.wire import Page
from ledger.credit_list import ListedCredit
from ledger.credit_list import credits as read_credits
from ledger.journal import CURRENCY, TOKENS
from ledger.money import format_usd
from ledger.statement import StatementLine, entries
from ledger.store import CreditOrder, NotEnough
from ledger.wallet import token_wallet_id

router = APIRouter(prefix="/v1/users/{user_id}", tags=["credits"])

OfCurrency = Annotated[Currency, Query(description="USD: the wallet of money; TOK: that of tokens beside it.")]


@router.get("/credits", operation_id="list_user_credits", summary="A user's credits", **listed(CreditReply))
async def list_user_credits(
    house: House, caller: Reader, user: TheUser, paging: Paging, currency: OfCurrency = "USD"
) -> Page[CreditReply] | Response:
    """What was given to and taken from the user by hand, newest first."""
    return await credits_page(house, user.wallet_id, currency, paging)


@router.post("/credits", operation_id="credit_user", summary="Give or take credits", status_code=201)
async def credit_user(house: House, caller: Writer, user: TheUser, body: NewCredit, source: Source) -> CreditDoneReply:
    """Once for each Idempotency-Key. What is set aside for calls under way is never taken."""
    return await ordered(house, caller, user.wallet_id, body, source)


@router.get("/ledger", operation_id="list_user_ledger", summary="A user's ledger", **listed(LedgerReply))
async def list_user_ledger(
    house: House, caller: Reader, user: TheUser, paging: Paging, currency: OfCurrency = "USD"
) -> Page[LedgerReply] | Response:
    """Every entry that moved the user's own wallet, newest first; their sum is what it holds."""
    return await ledger_page(house, user.wallet_id, currency, paging)


@router.get("/grants", operation_id="list_user_grants", summary="A user's grants")
async def list_user_grants(house: House, caller: Reader, user: TheUser) -> GrantsReply:
    """What the user's own wallet holds, grant by grant; at most 1000 of money and of tokens each."""
    return GrantsReply(data=await grants_of(house, user.wallet_id))


async def ordered(house: AdminHouse, caller: Caller, wallet_id: UUID, body: NewCredit, source: str) -> CreditDoneReply:
    """Have the bank do it. Raises Problem 409 for more than is there, 422."""
    _check(body, house.now())
    currency = _currency(body)
    if currency == TOKENS:
        wallet_id = token_wallet_id(wallet_id)
        await house.bank.open_wallet(wallet_id, TOKENS)
    order = CreditOrder(wallet_id, body.kind, body.units, body.reason, source, body.expires_at)
    with told():
        try:
            return CreditDoneReply.of(await house.bank.adjust(order, caller.actor), currency)
        except NotEnough as error:
            raise _not_enough(error.available, currency) from None


async def credits_page(
    house: AdminHouse, wallet_id: UUID, currency: Currency, paging: Pager
) -> Page[CreditReply] | Response:
    """One page of the credits of a wallet, or all of them as a file."""
    wallet_id = _wallet(wallet_id, currency)

    async def fetch(after: After, limit: int) -> list[ListedCredit]:
        return await read_credits(house.engine, wallet_id, before=after[0] if after else None, limit=limit)

    return await paging.answer(
        "credits",
        fetch,
        key=lambda credit: (credit.id,),
        types=(UUID,),
        shape=lambda credit: CreditReply.of(credit, currency),
        model=CreditReply,
    )


async def ledger_page(
    house: AdminHouse, wallet_id: UUID, currency: Currency, paging: Pager
) -> Page[LedgerReply] | Response:
    """One page of the entries of a wallet, or all of them as a file."""
    wallet_id = _wallet(wallet_id, currency)

    async def fetch(after: After, limit: int) -> list[StatementLine]:
        return await entries(house.engine, wallet_id, before=after[0] if after else None, limit=limit)

    return await paging.answer(
        "ledger",
        fetch,
        key=lambda line: (line.entry_id,),
        types=(UUID,),
        shape=lambda line: LedgerReply.of(line, currency),
        model=LedgerReply,
    )


def _check(body: NewCredit, now: datetime) -> None:
    """Raises Problem 422 for an order that makes no sense."""
    field = "amount" if body.tokens is None else "tokens"
    if (body.amount is None) == (body.tokens is None):
        raise wrong_field(field, "say either amount or tokens")
    if body.units == 0 or (body.units < 0 and body.kind != "adjustment"):
        raise wrong_field(field, f"must be above zero for a {body.kind}")
    if body.kind == "payment" and body.tokens is not None:
        raise wrong_field(field, "are not paid for; a payment has an amount")
    if body.expires_at is not None and (body.takes or body.expires_at <= now):
        raise wrong_field("expires_at", "of what is taken means nothing" if body.takes else "must lie in the future")


def _wallet(wallet_id: UUID, currency: Currency) -> UUID:
    return wallet_id if currency == CURRENCY else token_wallet_id(wallet_id)


def _currency(body: NewCredit) -> Currency:
    return "USD" if body.tokens is None else "TOK"


def _not_enough(available: int, currency: Currency) -> Problem:
    shown = format_usd(available) if currency == CURRENCY else str(available)
    unit = "USD" if currency == CURRENCY else "tokens"
    detail = f"Only {shown} {unit} can be taken: what is set aside for calls under way stays."
    return conflict(detail, code="not-enough", available=shown)

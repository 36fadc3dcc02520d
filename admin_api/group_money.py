"""Money given to a group's wallet and taken from it by hand, and its books: what ``credits.py`` has for users."""

from __future__ import annotations

from fastapi import APIRouter, Response

from admin_api.access import Reader, Writer
from admin_api.balances import grants_of
from admin_api.credit_replies import CreditDoneReply, CreditReply, GrantsReply, LedgerReply, NewCredit
from admin_api.credits import credits_page, ledger_page, ordered
from admin_api.groups import TheGroup
from admin_api.house import House
from admin_api.once import Source
from admin_api.paging import Paging, listed
from admin_api.problems import wrong_field
from admin_api.wire import Page

router = APIRouter(prefix="/v1/groups/{group_id}", tags=["credits"])


@router.get("/credits", operation_id="list_group_credits", summary="A group's credits", **listed(CreditReply))
async def list_group_credits(
    house: House, caller: Reader, kept: TheGroup, paging: Paging
) -> Page[CreditReply] | Response:
    """What was given to and taken from the group's wallet by hand, newest first."""
    return await credits_page(house, kept.group.wallet_id, "USD", paging)


@router.post("/credits", operation_id="credit_group", summary="Give or take a group's credits", status_code=201)
async def credit_group(
    house: House, caller: Writer, kept: TheGroup, body: NewCredit, source: Source
) -> CreditDoneReply:
    """Once for each Idempotency-Key. Members spend it where the group is shared. Also of a retired group, whose money
    is taken back so."""
    if body.tokens is not None:
        raise wrong_field("tokens", "a group has no tokens; say amount")
    return await ordered(house, caller, kept.group.wallet_id, body, source)


@router.get("/ledger", operation_id="list_group_ledger", summary="A group's ledger", **listed(LedgerReply))
async def list_group_ledger(
    house: House, caller: Reader, kept: TheGroup, paging: Paging
) -> Page[LedgerReply] | Response:
    """Every entry that moved the group's wallet, newest first."""
    return await ledger_page(house, kept.group.wallet_id, "USD", paging)


@router.get("/grants", operation_id="list_group_grants", summary="A group's grants")
async def list_group_grants(house: House, caller: Reader, kept: TheGroup) -> GrantsReply:
    """What the group's wallet holds, grant by grant."""
    return GrantsReply(data=await grants_of(house, kept.group.wallet_id))

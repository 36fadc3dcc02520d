"""Merging two identities of one person over HTTP."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from accounts.users import User
from admin_api.access import Caller, Writer
from admin_api.house import AdminHouse, House
from admin_api.people import ID, UserId
from admin_api.problems import conflict, not_found, wrong_field
from admin_api.user_replies import UserReply
from admin_api.wire import Body, Reply, UsdOut
from ledger.store import WalletBusy

router = APIRouter(prefix="/v1/users/{user_id}", tags=["users"])

_RETRY_S = 5


class Merge(Body):
    """Who goes on."""

    into: UUID = Field(description="The user that goes on for this one.", examples=[ID])


class MergeReply(Reply):
    """What became of the two."""

    user: UserReply = Field(description="The user that goes on.")
    moved: UsdOut = Field(description="USD that went into its wallet this time.", examples=["2.5000"])


@router.post("/merge", operation_id="merge_user", summary="Merge a user into another")
async def merge_user(house: House, caller: Writer, user_id: UserId, body: Merge) -> MergeReply:
    """The other one goes on for this one: its keys, groups and money go there, and whoever comes by its name is the
    other one, for ever. While calls of it still run its money waits (409): send the same again."""
    source = await _leaving(house, user_id)
    merged = await house.accounts.merge_users(source.id, await _staying(house, body.into), by=caller.actor)
    if merged is None:
        raise not_found()
    return MergeReply(user=UserReply.of(merged), moved=await _poured(house, caller, source, merged))


async def _leaving(house: AdminHouse, user_id: UUID) -> User:
    """A merged one is found here, so that a merge can be finished."""
    user = await house.accounts.user(user_id)
    if user is None or (user.status == "deleted" and user.merged_into is None):
        raise not_found()
    return user


async def _staying(house: AdminHouse, user_id: UUID) -> UUID:
    user = await house.accounts.user(user_id)
    if user is None or user.status == "deleted":
        raise wrong_field("into", "there is no such user")
    return user.id


async def _poured(house: AdminHouse, caller: Caller, source: User, target: User) -> int:
    """The money follows the identity, of which nobody spends any more."""
    try:
        return await house.bank.merge(source.wallet_id, target.wallet_id, by=caller.actor)
    except WalletBusy:
        detail = "The two are one user now; calls of the merged one still run, so its money waits. Send the same again."
        raise conflict(detail, code="wallet-busy", retry_after_s=_RETRY_S) from None
    except ValueError as error:
        raise conflict(str(error)) from None

"""Groups over HTTP: listed, made, read, changed, retired."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from accounts.groups import KeptGroup
from admin_api.access import Reader, Writer
from admin_api.balances import BalanceReply
from admin_api.etag import IfMatch, show
from admin_api.group_replies import GroupChange, GroupDetail, GroupReply, NewGroup, shown
from admin_api.house import AdminHouse, House
from admin_api.paging import After, Paging, listed
from admin_api.people import ID, offered_tier
from admin_api.problems import declared, not_found, told, wrong_field
from admin_api.wire import Page, Text
from policies.allowance import shared_plan

router = APIRouter(prefix="/v1/groups", tags=["groups"])

GroupId = Annotated[UUID, Path(description="The group's id.", examples=[ID])]

_NEVER_NULL = ("name", "priority", "shared")


async def _named(house: House, group_id: GroupId) -> KeptGroup:
    kept = await house.accounts.find_group(group_id)
    if kept is None:
        raise not_found()
    return kept


TheGroup = Annotated[KeptGroup, Depends(_named)]
"""The group in the path, a retired one too. It stands behind the caller in a route's parameters."""


@router.get("", operation_id="list_groups", summary="List groups", **listed(GroupReply))
async def list_groups(
    house: House,
    caller: Reader,
    paging: Paging,
    search: Annotated[Text, Query(description="Part of the name.", examples=["research"])] = "",
    include_retired: Annotated[bool, Query(description="Bring the retired ones, too.")] = False,
) -> Page[GroupReply] | Response:
    """Groups by name."""

    async def fetch(after: After, limit: int) -> list[KeptGroup]:
        place = None if after is None else (after[0], after[1])
        return await house.accounts.list_groups(search=search, retired=include_retired, after=place, limit=limit)

    return await paging.answer(
        "groups",
        fetch,
        key=lambda kept: (kept.group.name, kept.group.id),
        types=(str, UUID),
        shape=GroupReply.of,
        model=GroupReply,
    )


@router.post("", operation_id="create_group", summary="Create a group", status_code=201)
async def create_group(house: House, caller: Writer, body: NewGroup, response: Response) -> GroupReply:
    """A group with a wallet of its own and no members yet."""
    with told():
        kept = await house.accounts.create_group(name=body.name, by=caller.actor, **await _told(house, body))
    response.headers["location"] = f"/admin/api/v1/groups/{kept.group.id}"
    show(response, kept.version)
    return GroupReply.of(kept)


@router.get("/{group_id}", operation_id="get_group", summary="Read a group")
async def get_group(house: House, caller: Reader, kept: TheGroup, response: Response) -> GroupDetail:
    """One group, a retired one too, with what its wallet holds and its ETag."""
    show(response, kept.version)
    return GroupDetail.model_construct(None, balance=await _balance(house, kept), **shown(kept))


@router.patch("/{group_id}", operation_id="change_group", summary="Change a group", responses=declared(428))
async def change_group(
    house: House, caller: Writer, group_id: GroupId, body: GroupChange, version: IfMatch, response: Response
) -> GroupReply:
    """Change what the body names. In force on every replica within two seconds; calls that run go on as they began."""
    with told():
        kept = await house.accounts.change_group(
            group_id, expected_version=version, by=caller.actor, **await _news(house, body)
        )
    if kept is None:
        raise not_found()
    show(response, kept.version)
    return GroupReply.of(kept)


@router.delete(
    "/{group_id}", operation_id="retire_group", summary="Retire a group", status_code=204, responses=declared(428)
)
async def retire_group(house: House, caller: Writer, group_id: GroupId, version: IfMatch) -> None:
    """It gives its members nothing any more; who belonged to it, and the money in its wallet, stay on record."""
    if await house.accounts.retire_group(group_id, expected_version=version, by=caller.actor) is None:
        raise not_found()


async def _balance(house: AdminHouse, kept: KeptGroup) -> BalanceReply | None:
    """Of a retired group nothing is asked: asking books what is due, and nothing is due to it."""
    if kept.retired_at is not None:
        return None
    wallet_id = kept.group.wallet_id
    return BalanceReply.of_wallet(wallet_id, await house.bank.balance(wallet_id, shared_plan(kept.group)))


async def _told(house: AdminHouse, body: NewGroup) -> dict[str, Any]:
    return await _values(house, {name: getattr(body, name) for name in NewGroup.model_fields if name != "name"})


async def _news(house: AdminHouse, body: GroupChange) -> dict[str, Any]:
    """What the body names. Raises Problem 422."""
    news = {name: getattr(body, name) for name in body.model_fields_set}
    for name in _NEVER_NULL:
        if name in news and news[name] is None:
            raise wrong_field(name, "must not be null; leave it out to keep what is there")
    return await _values(house, news)


async def _values(house: AdminHouse, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as a group has them: forms become what they mean."""
    if fields.get("tier") is not None:
        await offered_tier(house, fields["tier"])
    forms = {name: fields[name].value() for name in ("allowance", "member_cap") if fields.get(name) is not None}
    return {**fields, **forms}

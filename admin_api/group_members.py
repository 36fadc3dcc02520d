"""Who belongs to a group, and what each of them used."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter, Response

from accounts.groups import Member
from accounts.members_sql import UnknownUsers
from accounts.users import User
from admin_api.access import Reader, Writer
from admin_api.group_replies import MemberReply, MembersAdded, MemberUsageReply, NewMembers
from admin_api.groups import GroupId, TheGroup
from admin_api.house import AdminHouse, House
from admin_api.limit_replies import BudgetReply
from admin_api.paging import After, Paging, listed
from admin_api.people import UserId
from admin_api.problems import Wrong, not_found, pointer, unprocessable
from admin_api.user_replies import UsedReply
from admin_api.wire import Page
from ledger.member_read import NOTHING, budget_states, used_in_month
from ledger.spans import first_of
from ledger.store import BudgetState
from policies.caps import member_cap
from policies.group import Group

router = APIRouter(prefix="/v1/groups/{group_id}", tags=["groups"])


@router.get("/members", operation_id="list_group_members", summary="A group's members", **listed(MemberReply))
async def list_group_members(
    house: House, caller: Reader, kept: TheGroup, paging: Paging
) -> Page[MemberReply] | Response:
    """By the user's id."""

    async def fetch(after: After, limit: int) -> list[Member]:
        return await _members(house, kept.group, after, limit)

    return await paging.answer(
        "members",
        fetch,
        key=lambda member: (member.user.id,),
        types=(UUID,),
        shape=MemberReply.of,
        model=MemberReply,
    )


@router.post("/members", operation_id="add_group_members", summary="Add members")
async def add_group_members(house: House, caller: Writer, group_id: GroupId, body: NewMembers) -> MembersAdded:
    """All of them or none; who belongs to it already stays. In force on every replica within two seconds."""
    try:
        added = await house.accounts.add_members(group_id, body.users, by=caller.actor)
    except UnknownUsers as error:
        raise unprocessable("There are no such users.", *_places(body.users, error.ids)) from None
    except LookupError:
        raise not_found() from None
    return MembersAdded(added=len(added))


@router.put("/members/{user_id}", operation_id="add_group_member", summary="Add a member", status_code=204)
async def add_group_member(house: House, caller: Writer, group_id: GroupId, user_id: UserId) -> None:
    """Who belongs to it already stays."""
    try:
        await house.accounts.add_member(group_id, user_id, by=caller.actor)
    except LookupError:
        raise not_found() from None


@router.delete("/members/{user_id}", operation_id="remove_group_member", summary="Remove a member", status_code=204)
async def remove_group_member(house: House, caller: Writer, group_id: GroupId, user_id: UserId) -> None:
    """In force on every replica within two seconds; calls that run go on as they began."""
    if not await house.accounts.remove_member(group_id, user_id, by=caller.actor):
        raise not_found()


@router.get("/usage", operation_id="list_group_usage", summary="What members used", **listed(MemberUsageReply))
async def list_group_usage(
    house: House, caller: Reader, kept: TheGroup, paging: Paging
) -> Page[MemberUsageReply] | Response:
    """Member by member, with what is left of each one's share of a shared wallet."""

    async def fetch(after: After, limit: int) -> list[MemberUsageReply]:
        members = await _members(house, kept.group, after, limit)
        return await _used(house, kept.group, [member.user for member in members])

    return await paging.answer(
        "group-usage",
        fetch,
        key=lambda row: (row.user_id,),
        types=(UUID,),
        shape=lambda row: row,
        model=MemberUsageReply,
    )


async def _members(house: AdminHouse, group: Group, after: After, limit: int) -> list[Member]:
    return await house.accounts.list_members(group.id, after=after[0] if after else None, limit=limit)


async def _used(house: AdminHouse, group: Group, users: Sequence[User]) -> list[MemberUsageReply]:
    """What each used this month, and its share: one question for all of them each."""
    now = house.now()
    caps = {user.id: member_cap(group, user.id, now) for user in users}
    used = await used_in_month(house.engine, list(caps), first_of("month", now).date())
    states = await budget_states(house.engine, [cap.id for cap in caps.values() if cap is not None])
    return [
        MemberUsageReply.of_member(
            user,
            UsedReply.of(used.get(user.id, NOTHING)),
            None if (cap := caps[user.id]) is None else BudgetReply.of_cap(cap, states.get(cap.id, BudgetState())),
        )
        for user in users
    ]


def _places(users: Sequence[UUID], unknown: Sequence[UUID]) -> list[Wrong]:
    strangers = set(unknown)
    places = [place for place, each in enumerate(users) if each in strangers]
    return [Wrong("there is no such user", pointer=pointer(("users", place))) for place in places]

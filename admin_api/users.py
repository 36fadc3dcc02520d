"""Users over HTTP: listed, made, read whole, changed, deleted, restored."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from accounts.edits_sql import TierOrder
from accounts.users import Role, Status, User
from admin_api.access import Reader, Writer
from admin_api.etag import IfMatchInstant, show
from admin_api.house import AdminHouse, House
from admin_api.paging import After, Paging, listed
from admin_api.people import TheUser, UserId, offered_tier, standing_of
from admin_api.problems import conflict, not_found, wrong_field
from admin_api.profile import profile
from admin_api.user_replies import NewUser, UserChange, UserDetail, UserReply
from admin_api.wire import Page, Text

router = APIRouter(prefix="/v1/users", tags=["users"])

_TIER_FIELDS = ("tier", "tier_from")


@router.get("", operation_id="list_users", summary="List users", **listed(UserReply))
async def list_users(
    house: House,
    caller: Reader,
    paging: Paging,
    search: Annotated[Text, Query(description="Part of the e-mail, name or subject; or an id.", examples=["ada"])] = "",
    tier: Annotated[Text | None, Query(description="Whose own tier is this.", examples=["pro"])] = None,
    status: Annotated[Status | None, Query(description="Left out: all but the deleted ones.")] = None,
    role: Annotated[Role | None, Query(description="Of this role.")] = None,
    group: Annotated[UUID | None, Query(description="Members of this group.")] = None,
    sort: Annotated[Literal["newest", "oldest"], Query(description="By when they were first seen.")] = "newest",
) -> Page[UserReply] | Response:
    """Users by age."""

    async def fetch(after: After, limit: int) -> list[User]:
        return await house.accounts.list_users(
            search=search,
            tier=tier,
            status=status,
            role=role,
            group=group,
            deleted=False,
            newest_first=sort == "newest",
            after=None if after is None else (after[0], after[1]),
            limit=limit,
        )

    return await paging.answer(
        "users",
        fetch,
        key=lambda user: (user.created_at, user.id),
        types=(datetime, UUID),
        shape=UserReply.of,
        model=UserReply,
    )


@router.post("", operation_id="create_user", summary="Create a user", status_code=201)
async def create_user(house: House, caller: Writer, body: NewUser, response: Response) -> UserReply:
    """A user nobody has seen yet. One who comes by an issuer or a forwarding service is made by its first call."""
    user = await house.accounts.create_user(
        name=body.name,
        email=body.email,
        role=body.role,
        tier=None if body.tier is None else await offered_tier(house, body.tier),
        language=body.language,
        realm=body.realm,
        subject=body.subject,
        only_new=True,
        by=caller.actor,
    )
    response.headers["location"] = f"/admin/api/v1/users/{user.id}"
    return _shown(user, response)


@router.get("/{user_id}", operation_id="get_user", summary="Read a user")
async def get_user(house: House, caller: Reader, user: TheUser, response: Response) -> UserDetail:
    """Everything about one user: tier and why, balance, limits, groups, this month; with its ETag."""
    _tag(user, response)
    return await profile(house, user)


@router.patch("/{user_id}", operation_id="change_user", summary="Change a user")
async def change_user(
    house: House, caller: Writer, user: TheUser, body: UserChange, seen: IfMatchInstant, response: Response
) -> UserReply:
    """Change what the body names, all of it or nothing. In force on every replica within two seconds; calls that run
    go on as they began."""
    fields = _fields(body)
    status = fields.pop("status", None)
    changed = await house.accounts.edit_user(
        user.id, fields, status=status, tier=await _tier(house, user, body), expected=seen, by=caller.actor
    )
    if changed is None:
        raise not_found()
    return _shown(changed, response)


@router.delete("/{user_id}", operation_id="delete_user", summary="Delete a user", status_code=204)
async def delete_user(house: House, caller: Writer, user: TheUser) -> None:
    """The user may not call any more and is listed no more; its books stay, and it can be restored by its id."""
    await house.accounts.set_status(user.id, "deleted", by=caller.actor)


@router.post("/{user_id}/restore", operation_id="restore_user", summary="Restore a deleted user")
async def restore_user(house: House, caller: Writer, user_id: UserId, response: Response) -> UserReply:
    """The one way to find a deleted user by its id. One that is not deleted stays as it is; one that was merged goes on
    as the other."""
    user = await house.accounts.user(user_id)
    if user is not None and user.status == "deleted":
        user = await house.accounts.edit_user(user.id, {}, status="active", expected=user.updated_at, by=caller.actor)
    if user is None:
        raise not_found()
    return _shown(user, response)


def _fields(body: UserChange) -> dict[str, str]:
    """What the body names beside the tier. Raises Problem 422."""
    fields = {name: getattr(body, name) for name in body.model_fields_set if name not in _TIER_FIELDS}
    for name, value in fields.items():
        if value is None:
            raise wrong_field(name, "must not be null; leave it out to keep what is there")
    return fields


async def _tier(house: AdminHouse, user: User, body: UserChange) -> TierOrder | None:
    """The tier the body asks for, from when on. Raises Problem 409, 422."""
    if "tier" not in body.model_fields_set:
        if "tier_from" in body.model_fields_set:
            raise wrong_field("tier_from", "says when a tier begins; name the tier, too")
        return None
    if body.tier is None:
        if body.tier_from != "now":
            raise wrong_field("tier_from", "a tier is unpinned at once")
        return TierOrder(None)
    tier = await offered_tier(house, body.tier)
    return TierOrder(tier) if body.tier_from == "now" else TierOrder(tier, _period_end(house, user))


def _period_end(house: AdminHouse, user: User) -> datetime:
    now = house.now()
    standing = standing_of(house, user, now)
    if standing is None:
        raise conflict("No tier is in force whose period could end.", code="no-tier")
    return standing.period_end(now)


def _shown(user: User, response: Response) -> UserReply:
    _tag(user, response)
    return UserReply.of(user)


def _tag(user: User, response: Response) -> None:
    assert user.updated_at is not None  # every row has one
    show(response, user.updated_at)

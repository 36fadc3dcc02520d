"""Ending a user's sessions, and acting as a user: by a short-lived key that is marked and on record on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from accounts.keys import Key
from admin_api.access import Reader, Writer
from admin_api.house import House
from admin_api.key_replies import state_of
from admin_api.keys import KeyId
from admin_api.paging import After, Paging, listed
from admin_api.people import ID, TheUser
from admin_api.problems import not_found
from admin_api.wire import Body, Instant, Page, Reason, Reply, UsdOut
from ledger.member_read import NOTHING, Used, used_by_key

router = APIRouter(prefix="/v1/users/{user_id}", tags=["users"])

Acted = tuple[Key, Used]


class SessionsRevoked(Reply):
    """What was ended."""

    keys_revoked: int = Field(description="Keys that were revoked.", examples=[2])
    sessions_from: Instant = Field(description="Tokens issued before this instant are refused.")


class Impersonation(Body):
    """For how long to act as the user, and why."""

    minutes: int = Field(15, strict=True, ge=1, le=60, description="Minutes.", examples=[15])
    reason: Reason = Field(description="Why; kept in the audit.", examples=["ticket 4711: sees no models"])


class ActingKey(Reply):
    """The key to act by: shown this once."""

    id: UUID = Field(description="Its id, by which it is ended.", examples=[ID])
    user_id: UUID = Field(description="As whom.", examples=[ID])
    key: str = Field(description="The key itself. It is kept nowhere.", examples=["sk-fb-abcdefghijkl-…"])
    acted_by: str = Field(description="Who acts.", examples=["ada@example.org"])
    expires_at: Instant = Field(description="When it ends.")


class ActingReply(Reply):
    """One time that an admin acted as the user."""

    id: UUID = Field(description="The key's id; charges made with it have it.", examples=[ID])
    acted_by: str = Field(description="Who acted.", examples=["ada@example.org"])
    reason: str = Field(description="Why; its first 200 characters.", examples=["ticket 4711: sees no models"])
    state: Literal["active", "expired", "revoked"] = Field(description="Whether it goes on.", examples=["expired"])
    created_at: Instant | None = Field(description="From when on.")
    expires_at: Instant | None = Field(description="Until when at the longest.")
    revoked_at: Instant | None = Field(description="When it was ended before its time.")
    last_used_at: Instant | None = Field(description="When it was last used, within half a minute.")
    calls: int = Field(description="Calls that were charged.", examples=[3])
    amount: UsdOut = Field(description="What the user was charged for them.", examples=["0.0042"])
    amount_tokens: int = Field(description="The same in tokens of the allowance.", examples=[0])

    @classmethod
    def of(cls, acted: Acted, now: datetime) -> ActingReply:
        """A key that an admin acted by, with what was spent by it."""
        key, used = acted
        alike = ("id", "acted_by", "created_at", "expires_at", "revoked_at", "last_used_at")
        spent = {"calls": used.calls, "amount": used.amount, "amount_tokens": used.amount_tokens}
        same = {name: getattr(key, name) for name in alike}
        return cls.model_construct(None, **same, **spent, reason=key.name, state=state_of(key, now))


@router.post("/sessions/revoke", operation_id="revoke_user_sessions", summary="End a user's sessions")
async def revoke_user_sessions(house: House, caller: Writer, user: TheUser) -> SessionsRevoked:
    """Every token issued so far is refused and every key revoked, within two seconds on every replica."""
    keys = await house.accounts.revoke_sessions(user.id, by=caller.actor)
    changed = await house.accounts.user(user.id)
    if changed is None or changed.sessions_from is None:
        raise not_found()
    return SessionsRevoked(keys_revoked=keys, sessions_from=changed.sessions_from)


@router.post("/impersonate", operation_id="impersonate_user", summary="Act as a user", status_code=201)
async def impersonate_user(
    house: House, caller: Writer, user: TheUser, body: Impersonation, response: Response
) -> ActingKey:
    """A key that is the user's in all that it may do, and yours on record: the audit has it under both, and so has each
    call made with it."""
    until = house.now() + timedelta(minutes=body.minutes)
    made = await house.accounts.act_as(user.id, until=until, reason=body.reason, admin=caller.scope, by=caller.actor)
    if made is None:
        raise not_found()
    full, key = made
    response.headers["location"] = f"/admin/api/v1/keys/{key.id}"
    return ActingKey(id=key.id, user_id=user.id, key=full, acted_by=key.acted_by, expires_at=until)


@router.get(
    "/impersonations",
    operation_id="list_user_impersonations",
    summary="Who acted as this user?",
    **listed(ActingReply),
)
async def list_user_impersonations(
    house: House, caller: Reader, user: TheUser, paging: Paging
) -> Page[ActingReply] | Response:
    """Newest first, with what was spent each time."""
    now = house.now()

    async def fetch(after: After, limit: int) -> Sequence[Acted]:
        keys = await house.accounts.list_acting(user.id, before=after[0] if after else None, limit=limit)
        used: Mapping[UUID, Used] = await used_by_key(house.engine, [key.id for key in keys]) if keys else {}
        return [(key, used.get(key.id, NOTHING)) for key in keys]

    return await paging.answer(
        "impersonations",
        fetch,
        key=lambda acted: (acted[0].id,),
        types=(UUID,),
        shape=lambda acted: ActingReply.of(acted, now),
        model=ActingReply,
    )


@router.delete(
    "/impersonations/{key_id}", operation_id="end_impersonation", summary="Stop acting as a user", status_code=204
)
async def end_impersonation(house: House, caller: Writer, user: TheUser, key_id: KeyId) -> None:
    """Before its time; in force on every replica within two seconds."""
    if not await house.accounts.stop_acting(user.id, key_id, admin=caller.scope, by=caller.actor):
        raise not_found()

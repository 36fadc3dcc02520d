"""Keys over HTTP: a user's, and a service's. The key itself is shown once, when it is made, and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from msgspec import UNSET

from accounts.keys import Key
from admin_api.access import Reader, Writer
from admin_api.house import AdminHouse, House
from admin_api.key_replies import (
    OVERLAP_S,
    KeyChange,
    KeyDetail,
    KeyReply,
    NewKeyReply,
    NewServiceKey,
    NewUserKey,
    Rotation,
    shown,
)
from admin_api.limit_replies import BudgetReply
from admin_api.paging import After, Pager, Paging, listed
from admin_api.people import ID, TheUser
from admin_api.problems import not_found, told, wrong_field
from admin_api.wire import Page, Text
from policies.caps import key_cap
from policies.key_limits import UNLIMITED

router = APIRouter(prefix="/v1", tags=["keys"])

KeyId = Annotated[UUID, Path(description="The key's id.", examples=[ID])]
Alive = Annotated[bool, Query(description="Only those neither revoked nor expired.")]
Search = Annotated[Text, Query(description="Part of the name or realm, or the beginning's letters.", examples=["chat"])]

_NEVER_NULL = ("name", "scopes")


@router.get("/users/{user_id}/keys", operation_id="list_user_keys", summary="A user's keys", **listed(KeyReply))
async def list_user_keys(
    house: House, caller: Reader, user: TheUser, paging: Paging, alive: Alive = False, search: Search = ""
) -> Page[KeyReply] | Response:
    """Oldest first; those by which admins acted as the user, too."""

    async def fetch(after: After, limit: int) -> Sequence[Key]:
        return await house.accounts.list_keys(user.id, search=search, alive=alive, after=_place(after), limit=limit)

    return await _page(house, paging, fetch)


@router.post("/users/{user_id}/keys", operation_id="create_user_key", summary="Make a user's key", status_code=201)
async def create_user_key(
    house: House, caller: Writer, user: TheUser, body: NewUserKey, response: Response
) -> NewKeyReply:
    """The reply has the key itself, this once."""
    _ends_later(body.expires_at, house.now())
    full, key = await house.accounts.create_key(
        name=body.name,
        user_id=user.id,
        scopes=body.scopes,
        limits=body.limits.value(),
        expires_at=body.expires_at,
        by=caller.actor,
    )
    return _made(house, full, key, response)


@router.get("/keys", operation_id="list_keys", summary="The keys of services", **listed(KeyReply))
async def list_keys(
    house: House, caller: Reader, paging: Paging, alive: Alive = False, search: Search = ""
) -> Page[KeyReply] | Response:
    """Oldest first. Users' keys are listed under their users."""

    async def fetch(after: After, limit: int) -> Sequence[Key]:
        return await house.accounts.list_keys(
            services=True, search=search, alive=alive, after=_place(after), limit=limit
        )

    return await _page(house, paging, fetch)


@router.post("/keys", operation_id="create_key", summary="Make a service's key", status_code=201)
async def create_key(house: House, caller: Writer, body: NewServiceKey, response: Response) -> NewKeyReply:
    """For a service that names its user in each call, or that reports work to be charged. The reply has the key itself,
    this once."""
    _ends_later(body.expires_at, house.now())
    full, key = await house.accounts.create_key(
        name=body.name,
        scopes=body.scopes,
        realm=body.realm,
        plain_headers=body.plain_headers,
        limits=body.limits.value(),
        expires_at=body.expires_at,
        by=caller.actor,
    )
    return _made(house, full, key, response)


@router.get("/keys/{key_id}", operation_id="get_key", summary="Read a key")
async def get_key(house: House, caller: Reader, key_id: KeyId) -> KeyDetail:
    """Any key, a user's or a service's, with what is left of its budget."""
    key = await house.accounts.find_key(key_id)
    if key is None:
        raise not_found()
    now = house.now()
    cap = key_cap(key.limits, now)
    budget = None if cap is None else BudgetReply.of_cap(cap, await house.bank.budget(cap.id))
    return KeyDetail.model_construct(None, budget=budget, **shown(key, now))


@router.patch("/keys/{key_id}", operation_id="change_key", summary="Change a key")
async def change_key(house: House, caller: Writer, key_id: KeyId, body: KeyChange) -> KeyReply:
    """In force on every replica within two seconds. Limits are replaced as a whole; what was used stays counted."""
    now = house.now()
    _ends_later(body.expires_at, now)
    with told():
        key = await house.accounts.change_key(key_id, by=caller.actor, **_news(body))
    if key is None:
        raise not_found()
    return KeyReply.of(key, now)


@router.delete("/keys/{key_id}", operation_id="revoke_key", summary="Revoke a key", status_code=204)
async def revoke_key(house: House, caller: Writer, key_id: KeyId) -> None:
    """For ever; in force on every replica within two seconds. One that was revoked before stays so."""
    if await house.accounts.revoke_key(key_id, by=caller.actor):
        return
    if await house.accounts.find_key(key_id) is None:
        raise not_found()


@router.post("/keys/{key_id}/rotate", operation_id="rotate_key", summary="Rotate a key", status_code=201)
async def rotate_key(
    house: House, caller: Writer, key_id: KeyId, response: Response, body: Rotation | None = None
) -> NewKeyReply:
    """Another key with all that this one may do; its budget and windows go on. Both are good for the overlap."""
    overlap = timedelta(seconds=body.overlap_s if body else OVERLAP_S)
    rotated = await house.accounts.rotate_key(key_id, overlap, by=caller.actor)
    if rotated is None:
        raise not_found()
    return _made(house, *rotated, response)


def _made(house: AdminHouse, full: str, key: Key, response: Response) -> NewKeyReply:
    response.headers["location"] = f"/admin/api/v1/keys/{key.id}"
    return NewKeyReply.of_new(full, key, house.now())


async def _page(house: AdminHouse, paging: Pager, fetch: Any) -> Page[KeyReply] | Response:
    now = house.now()
    return await paging.answer(
        "keys",
        fetch,
        key=lambda key: (key.id,),
        types=(UUID,),
        shape=lambda key: KeyReply.of(key, now),
        model=KeyReply,
    )


def _place(after: After) -> UUID | None:
    return after[0] if after else None


def _news(body: KeyChange) -> dict[str, Any]:
    """What the body names. Raises Problem 422."""
    news = {name: getattr(body, name) for name in body.model_fields_set}
    for name in _NEVER_NULL:
        if name in news and news[name] is None:
            raise wrong_field(name, "must not be null; leave it out to keep what is there")
    if "limits" in news:
        news["limits"] = body.limits.value() if body.limits else UNLIMITED
    return {name: news.get(name, UNSET) for name in KeyChange.model_fields}


def _ends_later(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise wrong_field("expires_at", "must lie in the future")

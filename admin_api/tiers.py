"""Tiers: list, create, read, change, retire, restore. What a tier may say is in the form that the file has, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from pydantic import Field

from admin_api import entries
from admin_api.access import Reader, Writer
from admin_api.entries import EntryName, EntryReply, EntryRoute, Search, WithRetired, life
from admin_api.etag import IfMatch
from admin_api.house import House
from admin_api.merge_patch import patch_of
from admin_api.paging import Paging, listed
from admin_api.problems import declared
from admin_api.wire import Body, Page, UsdOut
from config.catalog_shelf import TIERS, Entry
from config.tier_form import TierForm
from policies.tier import Tier

router = APIRouter(prefix="/v1/tiers", tags=["tiers"], route_class=EntryRoute)

if TYPE_CHECKING:
    TierPatch = Body
else:
    TierPatch = patch_of(TierForm, "TierPatch")


class TierReply(EntryReply, TierForm):
    """A tier."""

    price: UsdOut = Field(description="What it costs its user, shown and not charged.", examples=["20.0000"])

    @classmethod
    def of(cls, entry: Entry[Tier]) -> TierReply:
        """The tier as it stands."""
        return cls.model_construct(None, **dict(TierForm.showing(entry.value)), **life(entry))


@router.get("", operation_id="list_tiers", summary="List tiers", **listed(TierReply))
async def list_tiers(
    house: House, caller: Reader, paging: Paging, search: Search = "", include_retired: WithRetired = False
) -> Page[TierReply] | Response:
    """Tiers by name."""
    return await paging.answer(
        "tiers",
        lambda after, limit: entries.page(house, TIERS, search, include_retired, after, limit),
        key=lambda entry: (entry.value.name,),
        types=(str,),
        shape=TierReply.of,
        model=TierReply,
    )


@router.post("", operation_id="create_tier", summary="Create a tier", status_code=201, responses=declared(409))
async def create_tier(house: House, caller: Writer, body: TierForm, response: Response) -> TierReply:
    """In force on every replica within two seconds."""
    return TierReply.of(await entries.created(house, caller, TIERS, body, response, "/v1/tiers"))


@router.post("/{name:path}/restore", operation_id="restore_tier", summary="Restore a tier", responses=declared(409))
async def restore_tier(house: House, caller: Writer, name: EntryName, response: Response) -> TierReply:
    """Offer a retired tier again, as it was."""
    return TierReply.of(await entries.restored(house, caller, TIERS, name, response))


@router.get("/{name:path}", operation_id="get_tier", summary="Read a tier")
async def get_tier(house: House, caller: Reader, name: EntryName, response: Response) -> TierReply:
    """One tier, retired or not, with its ETag."""
    return TierReply.of(await entries.one(house, TIERS, name, response))


@router.patch("/{name:path}", operation_id="change_tier", summary="Change a tier", responses=declared(409, 428))
async def change_tier(
    house: House, caller: Writer, name: EntryName, body: TierPatch, version: IfMatch, response: Response
) -> TierReply:
    """In force on every replica within two seconds; calls that run keep what they began with."""
    return TierReply.of(await entries.changed(house, caller, TIERS, name, body, version, response))


@router.delete(
    "/{name:path}",
    operation_id="retire_tier",
    summary="Retire a tier",
    status_code=204,
    responses=declared(409, 428),
)
async def retire_tier(house: House, caller: Writer, name: EntryName, version: IfMatch) -> None:
    """Refused while anybody uses it: users, groups, another tier as its upgrade, or new users as their default."""
    users = await house.accounts.count_on_tier(name)
    await entries.retired(house, caller, TIERS, name, version, _counted(users))


def _counted(users: int) -> list[str]:
    return [f"{users} user{'s' if users > 1 else ''}"] if users else []

"""Open WebUI over HTTP: how the last sync went, and syncing now."""

from __future__ import annotations

import asyncio
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from admin_api.access import Reader, Writer
from admin_api.house import AdminHouse, House
from admin_api.people import ID
from admin_api.problems import conflict, declared
from admin_api.wire import Body, Instant, Reply
from openwebui.report import OfferedMerge, Outcome, Report
from openwebui.sync import Sync

router = APIRouter(prefix="/v1/openwebui", tags=["openwebui"])

_WAIT_S = 50.0
_RETRY_S = 10

_OUTCOME = Field(
    description="done; unchanged: nothing to do; tried: a dry run; refused: too many people would lose something at "
    "once; failed: Open WebUI or the database did not answer; busy: another sync runs.",
    examples=["done"],
)


class SyncWish(Body):
    """How to sync."""

    dry_run: bool = Field(False, description="Change nothing, tell what would be changed.", examples=[True])
    force: bool = Field(False, description="Also if more than a fifth of the people would lose something.")
    grants: bool | None = Field(
        None, description="Show people there only the models their tiers allow; without it, as the settings say."
    )


class MergeOffer(Reply):
    """Two accounts that may be one person's. `POST /users/{source}/merge` makes them one, if they are."""

    email: str = Field(description="The e-mail address both have.", examples=["ada@example.org"])
    source: UUID = Field(description="The account of a user who is gone there.", examples=[ID])
    into: UUID | None = Field(description="The account of a user who is there; null: not made yet.", examples=[ID])

    @classmethod
    def of(cls, offer: OfferedMerge) -> MergeOffer:
        return cls(email=offer.email, source=offer.source, into=offer.into)


class SyncReply(Reply):
    """How a sync went."""

    at: Instant = Field(description="When it began.")
    outcome: Outcome = _OUTCOME
    detail: str = Field(description="Why, where it came to nothing.", examples=[""])
    by: str = Field(description="Who asked for it.", examples=["ada@example.org"])
    took_s: float = Field(description="How long it took, in seconds.", examples=[1.25])
    people: int = Field(description="How many people are there.", examples=[120])
    groups: int = Field(description="How many groups are there.", examples=[7])
    changes: int = Field(description="How much was changed, or in a dry run would be.", examples=[3])
    lines: list[str] = Field(
        description="Each of them, a sentence; at most 500.", examples=[["ada@example.org gets an account"]]
    )
    notes: list[str] = Field(description="What else an admin should know.", examples=[[]])
    merges: list[MergeOffer] = Field(description="Accounts that may be one person's.", examples=[[]])

    @classmethod
    def of(cls, report: Report) -> SyncReply:
        same = {name: getattr(report, name) for name in cls.model_fields if name not in ("lines", "notes", "merges")}
        merges = [MergeOffer.of(each) for each in report.merges]
        return cls(**same, lines=list(report.lines), notes=list(report.notes), merges=merges)


class OpenWebUIReply(Reply):
    """The Open WebUI whose people are brought here."""

    url: str | None = Field(description="Its address; null: the settings name none.", examples=["https://chat.example"])
    realm: str = Field(description="Name under which its users are kept apart.", examples=["open-webui"])
    sync_every_s: float = Field(description="Seconds between two syncs; 0: only when asked.", examples=[3600])
    grants: bool = Field(description="Whether people there are shown only what their tiers allow.", examples=[False])
    last_sync: SyncReply | None = Field(description="How the last one went; null: there was none.")


@router.get("", operation_id="read_openwebui", summary="Read how the last sync went")
async def read_openwebui(house: House, caller: Reader) -> OpenWebUIReply:
    """The settings of the sync, and how the last one went that was no dry run."""
    there, sync = house.settings.openwebui, house.sync
    last = None if sync is None else await sync.mirror.last_report()
    return OpenWebUIReply(
        url=there.url or None,
        realm=there.realm,
        sync_every_s=there.sync_every_s,
        grants=there.grants,
        last_sync=None if last is None else SyncReply.of(last),
    )


@router.post("/sync", operation_id="sync_openwebui", summary="Sync now", responses=declared(409))
async def sync_openwebui(house: House, caller: Writer, body: SyncWish) -> SyncReply:
    """Brings people, groups and models of Open WebUI here. People are known by their ids there: whoever is deleted
    there is suspended here and keeps the money; a group that is gone is retired. Nothing is done with a list that did
    not come whole. A sync that takes longer than 50 s goes on (409, `sync-runs`): look here again."""
    task = _known(house).begin(caller.actor, dry_run=body.dry_run, force=body.force, grants=body.grants)
    try:
        async with asyncio.timeout(_WAIT_S):
            return SyncReply.of(await asyncio.shield(task))
    except TimeoutError:
        raise conflict("The sync goes on; look again.", code="sync-runs", retry_after_s=_RETRY_S) from None


def _known(house: AdminHouse) -> Sync:
    """Raises Problem 409."""
    if house.sync is None:
        raise conflict("The settings name no Open WebUI: openwebui.url and openwebui.admin_key.", code="no-openwebui")
    return house.sync

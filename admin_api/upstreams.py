"""Upstreams: list, create, read, change, retire, restore. A backend's key is named, never kept or shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from pydantic import Field

from admin_api import entries
from admin_api.access import Caller, Reader, Writer
from admin_api.entries import EntryName, EntryReply, EntryRoute, Search, WithRetired, life
from admin_api.etag import IfMatch
from admin_api.house import House
from admin_api.merge_patch import patch_of
from admin_api.paging import Paging, listed
from admin_api.problems import declared
from admin_api.wire import Body, Page
from config.catalog import Upstream
from config.catalog_document import concealed_headers
from config.catalog_forms import UpstreamForm
from config.catalog_shelf import UPSTREAMS, Entry
from config.settings import environment_secret

router = APIRouter(prefix="/v1/upstreams", tags=["upstreams"], route_class=EntryRoute)

if TYPE_CHECKING:
    UpstreamPatch = Body
else:
    UpstreamPatch = patch_of(UpstreamForm, "UpstreamPatch")


class UpstreamReply(EntryReply, UpstreamForm):
    """A backend."""

    key_set: bool | None = Field(
        description="Whether the variable named in api_key_env is set on this replica; null where none is named.",
        examples=[True],
    )

    @classmethod
    def of(cls, entry: Entry[Upstream], caller: Caller) -> UpstreamReply:
        """The upstream as it stands. Who may only look sees no header that may hold a secret."""
        fields = dict(UpstreamForm.showing(entry.value))
        if caller.role == "support":
            fields["headers"] = concealed_headers(entry.value.headers)
        return cls.model_construct(None, **fields, **life(entry), key_set=_key_set(entry.value))


def _key_set(upstream: Upstream) -> bool | None:
    return environment_secret(upstream.api_key_env) is not None if upstream.api_key_env else None


@router.get("", operation_id="list_upstreams", summary="List upstreams", **listed(UpstreamReply))
async def list_upstreams(
    house: House, caller: Reader, paging: Paging, search: Search = "", include_retired: WithRetired = False
) -> Page[UpstreamReply] | Response:
    """Upstreams by name."""
    return await paging.answer(
        "upstreams",
        lambda after, limit: entries.page(house, UPSTREAMS, search, include_retired, after, limit),
        key=lambda entry: (entry.value.name,),
        types=(str,),
        shape=lambda entry: UpstreamReply.of(entry, caller),
        model=UpstreamReply,
    )


@router.post("", operation_id="create_upstream", summary="Create an upstream", status_code=201, responses=declared(409))
async def create_upstream(house: House, caller: Writer, body: UpstreamForm, response: Response) -> UpstreamReply:
    """A backend that models can name. Its address is checked for its form; `farebox doctor` tries it."""
    entry = await entries.created(house, caller, UPSTREAMS, body, response, "/v1/upstreams")
    return UpstreamReply.of(entry, caller)


@router.post(
    "/{name:path}/restore", operation_id="restore_upstream", summary="Restore an upstream", responses=declared(409)
)
async def restore_upstream(house: House, caller: Writer, name: EntryName, response: Response) -> UpstreamReply:
    """Offer a retired upstream again, as it was."""
    return UpstreamReply.of(await entries.restored(house, caller, UPSTREAMS, name, response), caller)


@router.get("/{name:path}", operation_id="get_upstream", summary="Read an upstream")
async def get_upstream(house: House, caller: Reader, name: EntryName, response: Response) -> UpstreamReply:
    """One upstream, retired or not, with its ETag."""
    return UpstreamReply.of(await entries.one(house, UPSTREAMS, name, response), caller)


@router.patch(
    "/{name:path}", operation_id="change_upstream", summary="Change an upstream", responses=declared(409, 428)
)
async def change_upstream(
    house: House, caller: Writer, name: EntryName, body: UpstreamPatch, version: IfMatch, response: Response
) -> UpstreamReply:
    """In force on every replica within two seconds; calls that run stay where they are."""
    entry = await entries.changed(house, caller, UPSTREAMS, name, body, version, response)
    return UpstreamReply.of(entry, caller)


@router.delete(
    "/{name:path}",
    operation_id="retire_upstream",
    summary="Retire an upstream",
    status_code=204,
    responses=declared(409, 428),
)
async def retire_upstream(house: House, caller: Writer, name: EntryName, version: IfMatch) -> None:
    """Refused while a model is served by it."""
    await entries.retired(house, caller, UPSTREAMS, name, version)

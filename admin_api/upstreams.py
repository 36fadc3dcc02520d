"""Upstreams: list, create, read, change, retire, restore. A backend's key is named, never kept or shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from pydantic import Field, ValidationError

from admin_api import entries
from admin_api.access import Caller, Reader, Writer
from admin_api.entries import EntryName, EntryReply, EntryRoute, Search, WithRetired, life
from admin_api.etag import IfMatch
from admin_api.house import House
from admin_api.merge_patch import merged, patch_of, sent
from admin_api.paging import Paging, listed
from admin_api.problems import Wrong, declared, pointer, unprocessable
from admin_api.wire import Body, Page
from config.catalog import Upstream
from config.catalog_document import concealed_headers
from config.catalog_forms import UpstreamForm
from config.catalog_shelf import UPSTREAMS, Entry, find_entry
from config.environment import environment_secret
from config.places_dns import led_astray

router = APIRouter(prefix="/v1/upstreams", tags=["upstreams"], route_class=EntryRoute)

_RESOLVING_S = 3.0

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
    """A backend that models can name. Its address is resolved, and refused where it leads into a private network that
    `allow_private` does not allow; `farebox doctor` tries it."""
    await _not_astray(body)
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
    if (form := await _as_changed(house, name, body)) is not None:
        await _not_astray(form)
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


async def _as_changed(house: House, name: str, patch: Body) -> UpstreamForm | None:
    """The upstream as the patch would make it; None where there is none, or no sense in it: the write tells that."""
    entry = await find_entry(house.engine, UPSTREAMS, name)
    if entry is None:
        return None
    try:
        return UpstreamForm.model_validate(merged(UPSTREAMS.document(entry), sent(patch)))
    except ValidationError:
        return None


async def _not_astray(form: UpstreamForm) -> None:
    """A name that leads nowhere may be saved: it is asked again when a call connects. Raises Problem 422."""
    try:
        async with asyncio.timeout(_RESOLVING_S):
            reason = await led_astray(form.base_url, private=form.allow_private)
    except OSError:  # a resolver that does not answer in time, too
        return
    if reason is not None:
        raise unprocessable(f"base_url may not be asked: {reason}.", Wrong(reason, pointer=pointer(["base_url"])))

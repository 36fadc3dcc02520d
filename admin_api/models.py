"""Models: list, create, read, change, retire, restore. Their prices over time: prices.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from admin_api import entries
from admin_api.access import Reader, Writer
from admin_api.entries import EntryReply, EntryRoute, ModelId, Search, WithRetired, life
from admin_api.etag import IfMatch
from admin_api.house import House
from admin_api.merge_patch import patch_of
from admin_api.paging import Paging, listed
from admin_api.problems import declared
from admin_api.wire import Body, Page
from config.catalog import Model
from config.catalog_forms import ModelForm
from config.catalog_shelf import MODELS, Entry

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=EntryRoute)

if TYPE_CHECKING:
    ModelPatch = Body
else:
    ModelPatch = patch_of(ModelForm, "ModelPatch")


class ModelReply(EntryReply, ModelForm):
    """A model, with the price in force."""

    @classmethod
    def of(cls, entry: Entry[Model]) -> ModelReply:
        """The model as it stands."""
        return cls.model_construct(None, **dict(ModelForm.showing(entry.value, entry.rates)), **life(entry))


@router.get("", operation_id="list_models", summary="List models", **listed(ModelReply))
async def list_models(
    house: House, caller: Reader, paging: Paging, search: Search = "", include_retired: WithRetired = False
) -> Page[ModelReply] | Response:
    """Models by id, with their prices in force."""
    return await paging.answer(
        "models",
        lambda after, limit: entries.page(house, MODELS, search, include_retired, after, limit),
        key=lambda entry: (entry.value.id,),
        types=(str,),
        shape=ModelReply.of,
        model=ModelReply,
    )


@router.post("", operation_id="create_model", summary="Create a model", status_code=201, responses=declared(409))
async def create_model(house: House, caller: Writer, body: ModelForm, response: Response) -> ModelReply:
    """Offered on every replica within two seconds. Without `prices` calls to it are refused until it has some."""
    return ModelReply.of(await entries.created(house, caller, MODELS, body, response, "/v1/models"))


@router.post(
    "/{model_id:path}/restore", operation_id="restore_model", summary="Restore a model", responses=declared(409)
)
async def restore_model(house: House, caller: Writer, model_id: ModelId, response: Response) -> ModelReply:
    """Offer a retired model again, as it was."""
    return ModelReply.of(await entries.restored(house, caller, MODELS, model_id, response))


@router.get("/{model_id:path}", operation_id="get_model", summary="Read a model")
async def get_model(house: House, caller: Reader, model_id: ModelId, response: Response) -> ModelReply:
    """One model, retired or not, with its ETag and the price in force."""
    return ModelReply.of(await entries.one(house, MODELS, model_id, response))


@router.patch("/{model_id:path}", operation_id="change_model", summary="Change a model", responses=declared(409, 428))
async def change_model(
    house: House, caller: Writer, model_id: ModelId, body: ModelPatch, version: IfMatch, response: Response
) -> ModelReply:
    """In force on every replica within two seconds. Other `prices` begin now, as a version; what was charged keeps
    the one it was charged by."""
    return ModelReply.of(await entries.changed(house, caller, MODELS, model_id, body, version, response))


@router.delete(
    "/{model_id:path}",
    operation_id="retire_model",
    summary="Retire a model",
    status_code=204,
    responses=declared(409, 428),
)
async def retire_model(house: House, caller: Writer, model_id: ModelId, version: IfMatch) -> None:
    """Refused while another model falls back to it."""
    await entries.retired(house, caller, MODELS, model_id, version)

"""The versions of a model's price: list, read, enter. None is edited or deleted; a planned one is superseded by
another for the same instant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Response
from pydantic import Field

from admin_api import entries
from admin_api.access import Reader, Writer
from admin_api.entries import EntryRoute, ModelId
from admin_api.house import House
from admin_api.paging import Paging, listed
from admin_api.problems import declared, not_found
from admin_api.wire import Body, Instant, Page, Reply
from config.catalog_shelf import MODELS, find_entry
from config.price_form import PricesForm
from config.price_versions import PriceVersion, State, find_price_version, price_versions

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=EntryRoute)

Version = Annotated[int, Path(ge=0, le=2**62, description="The version's number.", examples=[17])]
_EFFECTIVE = "From when it holds."


class NewPrice(Body):
    """A version to enter."""

    prices: PricesForm = Field(
        description="All of it: a kind that is not named is charged as the one it is a special case of, else free.",
        examples=[{"input": "0.15", "output": "0.60"}],
    )
    effective_at: Instant | None = Field(
        None, description="From when it holds, not in the past; now where not said.", examples=["2027-01-31T00:00:00Z"]
    )


class PriceReply(Reply):
    """A version of a model's price."""

    version: int = Field(description="Its number, which charges keep.", examples=[17])
    model: str = Field(description="Whose price it is.", examples=["gpt-4o-mini"])
    state: State = Field(
        description="planned; in_force; past; or superseded: another one for the same instant came after it.",
        examples=["in_force"],
    )
    effective_at: Instant = Field(description=_EFFECTIVE)
    until: Instant | None = Field(description="When the next one begins; null while there is none.")
    prices: PricesForm = Field(description="What it says.", examples=[{"input": "0.15", "output": "0.60"}])
    created_at: Instant = Field(description="When it was entered.")

    @classmethod
    def of(cls, version: PriceVersion) -> PriceReply:
        """The version as it stands."""
        own = {name: getattr(version, name) for name in cls.model_fields if name != "prices"}
        return cls.model_construct(None, **own, prices=PricesForm.showing(version.rates))


@router.get(
    "/{model_id:path}/prices", operation_id="list_prices", summary="List a model's prices", **listed(PriceReply)
)
async def list_prices(house: House, caller: Reader, model_id: ModelId, paging: Paging) -> Page[PriceReply] | Response:
    """Every version, the latest to begin first."""
    if await find_entry(house.engine, MODELS, model_id) is None:
        raise not_found()
    return await paging.answer(
        "prices",
        lambda after, limit: price_versions(house.engine, model_id, before=after and (after[0], after[1]), limit=limit),
        key=lambda version: (version.effective_at, version.version),
        types=(datetime, int),
        shape=PriceReply.of,
        model=PriceReply,
    )


@router.post(
    "/{model_id:path}/prices",
    operation_id="create_price",
    summary="Enter a price",
    status_code=201,
    responses=declared(409),
)
async def create_price(
    house: House, caller: Writer, model_id: ModelId, body: NewPrice, response: Response
) -> PriceReply:
    """A version that begins now or later. To take a planned one back, enter what should hold for the same instant."""
    with entries.problems():
        entered = await entries.writer(house).add_price(
            model_id, body.prices.value(), body.effective_at, by=caller.actor
        )
    response.headers["location"] = f"/admin/api/v1/models/{quote(model_id)}/prices/{entered.version}"
    return PriceReply.of(entered)


@router.get("/{model_id:path}/prices/{version}", operation_id="get_price", summary="Read a version of a price")
async def get_price(house: House, caller: Reader, model_id: ModelId, version: Version) -> PriceReply:
    """One version: by the number that a charge names."""
    found = await find_price_version(house.engine, model_id, version)
    if found is None:
        raise not_found()
    return PriceReply.of(found)

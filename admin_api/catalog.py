"""The catalogue as a whole: as the text of a file, and where it differs from the operator's file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Response
from msgspec.structs import replace
from pydantic import Field

from admin_api.access import Reader
from admin_api.house import House
from admin_api.wire import Reply
from config.catalog import Declared
from config.catalog_document import concealed_headers
from config.catalog_file import read_catalog
from config.catalog_shelf import whole_catalog
from config.catalog_toml import catalog_toml
from config.complaints import ComplaintsError
from config.differences import Difference, differences
from config.settings import config_path
from config.toml_file import CATALOG_KEYS, read_toml

router = APIRouter(prefix="/v1", tags=["catalogue"])

_TOML = "application/toml"
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "TOML.", "content": {_TOML: {"schema": {"type": "string"}}}}
}


class FieldReply(Reply):
    """A field that is said differently."""

    field: str = Field(description="Its path in the entry.", examples=["prices.input"])
    file: Any = Field(description="What the file says; null: nothing.", examples=["0.15"])
    database: Any = Field(description="What is in force; null: nothing.", examples=["0.30"])


class DifferenceReply(Reply):
    """An entry in which the file and the database differ."""

    noun: Literal["upstream", "model", "tier", "task"] = Field(description="What it is.", examples=["tier"])
    name: str = Field(description="Its name.", examples=["pro"])
    where: Literal["file", "database", "both"] = Field(description="Where it is.", examples=["both"])
    retired: bool = Field(description="The database has it, but offers it no longer.", examples=[False])
    applied: bool = Field(
        description="The next start brings the file's into the database, because it changed there since the last one.",
        examples=[False],
    )
    fields: list[FieldReply] = Field(description="What is said differently, where it is in both.")

    @classmethod
    def of(cls, difference: Difference) -> DifferenceReply:
        """The difference as it is shown."""
        own = {name: getattr(difference, name) for name in cls.model_fields if name != "fields"}
        return cls(**own, fields=[FieldReply(**field._asdict()) for field in difference.fields])


class DifferencesReply(Reply):
    """The operator's file beside the database."""

    file: str | None = Field(description="The file of this replica; null where it has none.", examples=["farebox.toml"])
    wrong: list[str] = Field(description="What is wrong in the file; then nothing is compared.", examples=[[]])
    differences: list[DifferenceReply] = Field(description="Every entry that differs.")


@router.get(
    "/catalog.toml",
    operation_id="get_catalog_toml",
    summary="Print the catalogue as TOML",
    response_class=Response,
    responses=_TEXT,
)
async def get_catalog_toml(house: House, caller: Reader) -> Response:
    """All that is offered, as a file that says the same: what is retired, planned, or of groups is not in it."""
    catalog = await whole_catalog(house.engine)
    text = catalog_toml(_concealed(catalog) if caller.role == "support" else catalog)
    return Response(text, media_type=_TOML)


@router.get("/catalog/differences", operation_id="get_catalog_differences", summary="Compare with the file")
async def get_catalog_differences(house: House, caller: Reader) -> DifferencesReply:
    """Entries that are in one of the two alone, or differ, and what the next start will do about it."""
    path = config_path()
    if path is None:
        return DifferencesReply(file=None, wrong=[], differences=[])
    try:
        file = await asyncio.to_thread(_declared, path)
    except ComplaintsError as error:
        return DifferencesReply(file=path.name, wrong=[str(each) for each in error.complaints], differences=[])
    found = await differences(house.engine, file)
    return DifferencesReply(file=path.name, wrong=[], differences=[DifferenceReply.of(each) for each in found])


def _concealed(catalog: Declared) -> Declared:
    upstreams = (replace(each, headers=concealed_headers(each.headers)) for each in catalog.upstreams)
    return replace(catalog, upstreams=tuple(upstreams))


def _declared(path: Path) -> Declared:
    """The catalogue in the file. Raises ComplaintsError."""
    return read_catalog({name: table for name, table in read_toml(path).items() if name in CATALOG_KEYS})

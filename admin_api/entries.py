"""What entries of the catalogue have in common over the API: the same writes, the same refusals, the same life."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Path, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from msgspec import Struct
from pydantic import Field, ValidationError
from starlette.routing import Match
from starlette.types import Scope

from admin_api.access import Caller
from admin_api.etag import show
from admin_api.house import AdminHouse
from admin_api.merge_patch import merged, sent
from admin_api.paging import After
from admin_api.problems import Wrong, conflict, not_found, pointer, unprocessable
from admin_api.wire import Body, Instant, Reply, Text
from config.catalog_shelf import Entry, Shelf, find_entry, list_entries
from config.catalog_write import CatalogWriter, InUse, NameTaken, NoEntry, Retired
from config.complaints import ComplaintsError
from config.form import Document, Form

T = TypeVar("T", bound=Struct)
F = TypeVar("F", bound=Form)

Search = Annotated[Text, Query(description="Part of the name or title.", examples=["gpt"])]
WithRetired = Annotated[bool, Query(description="Bring the retired ones, too.")]
EntryName = Annotated[str, Path(min_length=1, max_length=200, description="Its name.", examples=["pro"])]
ModelId = Annotated[str, Path(min_length=1, max_length=200, description="Its id.", examples=["gpt-4o-mini"])]
"""Names in paths may hold slashes, as ids of models do."""

# Last steps of a path that are routes of their own.
_ROUTES = ("restore", "prices")


class EntryRoute(APIRoute):
    """A route of entries, whose names may hold slashes: what is below an entry is left to those routes that are for
    it, with their own methods."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As usual, but for a name that cannot be one."""
        match, child = super().matches(scope)
        params = child.get("path_params", {})
        if set(str(params.get("name") or params.get("model_id") or "").split("/")[1:]) & set(_ROUTES):
            return Match.NONE, {}
        return match, child


class EntryReply(Reply):
    """What every entry of the catalogue has beside what it says."""

    version: int = Field(description="Counts changes; the ETag.", examples=[1])
    created_at: Instant = Field(description="When it was made.")
    updated_at: Instant = Field(description="When it last changed.")
    retired_at: Instant | None = Field(description="Since when it is no longer offered.")


def life(entry: Entry[Any]) -> dict[str, Any]:
    """The fields of ``EntryReply``."""
    return {name: getattr(entry, name) for name in EntryReply.model_fields}


async def page(
    house: AdminHouse, shelf: Shelf[T, F], search: str, retired: bool, after: After, limit: int
) -> list[Entry[T]]:
    """One page of entries, by name."""
    place = after[0] if after else ""
    return await list_entries(house.engine, shelf, search=search, retired=retired, after=place, limit=limit)


async def one(house: AdminHouse, shelf: Shelf[T, F], name: str, response: Response) -> Entry[T]:
    """The entry, with its ETag on the reply. Raises Problem 404."""
    entry = await find_entry(house.engine, shelf, name)
    if entry is None:
        raise not_found()
    show(response, entry.version)
    return entry


async def created(
    house: AdminHouse, caller: Caller, shelf: Shelf[T, F], form: F, response: Response, path: str
) -> Entry[T]:
    """The entry that was made, with its ETag, and its place under ``path``. Raises Problem 409, 422."""
    name = shelf.name_of(form)
    _reachable(shelf.key, name)
    with problems():
        entry = await writer(house).create(shelf, form, by=caller.actor)
    response.headers["location"] = f"/admin/api{path}/{quote(name)}"
    show(response, entry.version)
    return entry


async def changed(
    house: AdminHouse,
    caller: Caller,
    shelf: Shelf[T, F],
    name: str,
    patch: Body,
    version: int,
    response: Response,
) -> Entry[T]:
    """The entry after the patch, with its ETag. Raises Problem 404, 409, 422."""

    def amend(document: Document) -> F:
        try:
            return shelf.form.model_validate(merged(document, sent(patch)))
        except ValidationError as error:
            raise _of_body(error) from None

    with problems():
        entry = await writer(house).change(shelf, name, amend, expected=version, by=caller.actor)
    show(response, entry.version)
    return entry


async def retired(
    house: AdminHouse, caller: Caller, shelf: Shelf[T, F], name: str, version: int, users: Iterable[str] = ()
) -> None:
    """Offer it no longer. Raises Problem 404, 409."""
    with problems():
        await writer(house).retire(shelf, name, expected=version, users=users, by=caller.actor)


async def restored(house: AdminHouse, caller: Caller, shelf: Shelf[T, F], name: str, response: Response) -> Entry[T]:
    """The entry, offered again, with its ETag. Raises Problem 404, 409."""
    with problems(bodiless=True):
        entry = await writer(house).restore(shelf, name, by=caller.actor)
    show(response, entry.version)
    return entry


def writer(house: AdminHouse) -> CatalogWriter:
    """What writes the catalogue of this house."""
    return CatalogWriter(house.engine, default_tier=house.settings.default_tier)


@contextmanager
def problems(*, bodiless: bool = False) -> Iterator[None]:
    """The catalogue's refusals as problems. ``bodiless``: there is no field of the request that could be wrong."""
    try:
        yield
    except NoEntry:
        raise not_found() from None
    except NameTaken as error:
        raise conflict(_sentence(error), code="name-taken") from None
    except Retired as error:
        raise conflict(_sentence(error), code="retired") from None
    except InUse as error:
        raise conflict(_sentence(error), code="in-use", used_by=list(error.uses)) from None
    except ComplaintsError as error:
        if bodiless:
            raise conflict(_sentence(error), code="does-not-fit") from None
        wrongs = [Wrong(each.what, pointer=pointer([each.where])) for each in error.complaints]
        raise unprocessable(str(error).replace("\n", "; "), *wrongs) from None


def _of_body(error: ValidationError) -> RequestValidationError:
    """As if the body itself had been validated: one voice for what is wrong in a creation and in a change."""
    errors = error.errors(include_url=False, include_input=False)
    return RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in errors])


def _reachable(key: str, name: str) -> None:
    """A name that every client's path leads to. Raises Problem 422."""
    steps = name.split("/")
    if {"", ".", ".."} & set(steps):
        wrong = "must not have a slash at its ends, two in a row, or steps of dots: no path would lead to it"
    elif set(steps[1:]) & set(_ROUTES):
        wrong = f"must not have a step called {' or '.join(_ROUTES)}: its path would lead elsewhere"
    else:
        return
    raise unprocessable(f"{key}: {wrong}", Wrong(wrong, pointer=pointer([key])))


def _sentence(error: Exception) -> str:
    text = str(error).replace("\n", "; ")
    return f"{text[:1].upper()}{text[1:]}."

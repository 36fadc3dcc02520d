"""Lists: a page at a time by keyset, or the whole of it as a file.

A route gives a function that reads the rows after a place, and gets back what to answer:

    @router.get("", operation_id="list_admins", **listed(AdminReply))
    async def list_admins(house: House, caller: Owner, paging: Paging) -> Page[AdminReply] | Response:
        return await paging.answer("admins", fetch, key=…, types=…, shape=AdminReply.of, model=AdminReply)

The cursor is opaque to callers: it holds the key of the last row they saw.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import Depends, Query
from starlette.responses import Response

from admin_api.export import FILES, export
from admin_api.problems import wrong_parameter
from admin_api.wire import Page, Reply, in_bounds

Row = TypeVar("Row")
Shown = TypeVar("Shown", bound=Reply)
After = tuple[Any, ...] | None
Fetch = Callable[[After, int], Awaitable[Sequence[Row]]]
"""``fetch(after, limit)``: at most ``limit`` rows behind the one with the key ``after`` (None: from the first on)."""

LIMIT_MAX = 1000
"""No list answers with more rows; exports read pages of this size."""

FIRST = 200
"""The first page of a file has few rows, so that its first byte leaves soon."""

_CURSOR_CHARS_MAX = 2000
_INT_MAX = 2**63 - 1
Format = Literal["json", "csv", "xlsx"]


@dataclass(frozen=True, slots=True)
class Pager:
    """How much of a list is asked for, from where, and in which form."""

    limit: int
    cursor: str | None
    format: Format

    def after(self, *types: Any) -> After:
        """The key in the cursor, as values of these types. Raises Problem 422 for a cursor that is not ours."""
        if self.cursor is None:
            return None
        try:
            raw = base64.b64decode(self.cursor + "=" * (-len(self.cursor) % 4), b"-_", validate=True)
            return tuple(map(_bounded, msgspec.json.decode(raw, type=tuple[types])))  # type: ignore[valid-type]
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise wrong_parameter("cursor", "is not a cursor of this list") from None

    async def answer(
        self,
        name: str,
        fetch: Fetch[Row],
        *,
        key: Callable[[Row], Sequence[Any]],
        types: Sequence[Any],
        shape: Callable[[Row], Shown],
        model: type[Shown],
    ) -> Page[Shown] | Response:
        """A page as JSON, or the whole list as a file called ``name``. ``types`` are those of the key's members."""
        after = self.after(*types)
        if self.format != "json":
            # Read before the reply begins: a database that is away is told by a status, and not by a file cut short.
            first = await fetch(after, FIRST)
            return export(self.format, name, model, _every(first, fetch, key, shape))
        # One more than asked for tells whether there is a next page; a full longest page may be followed by none.
        rows = await fetch(after, min(self.limit + 1, LIMIT_MAX))
        more = len(rows) > self.limit or len(rows) == LIMIT_MAX
        shown = rows[: self.limit]
        return Page[model](  # type: ignore[valid-type]
            data=[shape(row) for row in shown], next_cursor=cursor_of(key(shown[-1])) if more else None
        )


def cursor_of(key: Sequence[Any]) -> str:
    """The key of a row -> a cursor that stands behind it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode().rstrip("=")


def _bounded(value: Any) -> Any:
    """A member of a key that the database can compare. Raises ValueError."""
    if isinstance(value, datetime):
        return in_bounds(value)
    if (isinstance(value, int) and abs(value) > _INT_MAX) or (isinstance(value, str) and "\0" in value):
        raise ValueError("no key of ours")
    return value


async def _every(
    rows: Sequence[Row], fetch: Fetch[Row], key: Callable[[Row], Sequence[Any]], shape: Callable[[Row], Shown]
) -> AsyncIterator[Shown]:
    """These first rows and every one behind them, a page of the database at a time."""
    asked = FIRST
    while rows:
        for row in rows:
            yield shape(row)
        rows, asked = await fetch(tuple(key(rows[-1])), LIMIT_MAX) if len(rows) == asked else (), LIMIT_MAX


def _pager(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Objects on a page.", examples=[50])] = 50,
    cursor: Annotated[
        str | None,
        Query(max_length=_CURSOR_CHARS_MAX, description="`next_cursor` of the page before; opaque.", examples=[None]),
    ] = None,
    format: Annotated[Format, Query(description="A page as JSON, or the whole list as a file.")] = "json",
) -> Pager:
    return Pager(limit, cursor, format)


Paging = Annotated[Pager, Depends(_pager)]


def listed(model: type[Reply]) -> dict[str, Any]:
    """For the decorator of a route that lists: what it answers as JSON, and that there are files, too."""
    files = {media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}} for media_type in FILES}
    return {
        "response_model": Page[model],  # type: ignore[valid-type]
        "responses": {200: {"description": "A page, or the whole list as a file.", "content": files}},
    }

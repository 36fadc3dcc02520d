"""Whole lists as CSV or XLSX, written as they are read: the first byte leaves before the second page is fetched.

No cell is ever a formula. In XLSX cells are numbers or text by their type; in CSV, which knows no types, text that a
spreadsheet would calculate gets an apostrophe in front.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from admin_api.sheet import Cell, Workbook
from admin_api.wire import Reply, is_money

_AT_ONCE = 200
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_CALCULATED = ("=", "+", "-", "@", "\t", "\r", "\n")
_MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
FILES = tuple(_MEDIA_TYPES.values())
"""The media types of files."""


class Column(NamedTuple):
    """One column: its heading (``limits.models``), the way to its value, whether it holds money."""

    heading: str
    path: tuple[str, ...]
    money: bool


def columns(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[Column]:
    """The columns of a reply; a reply inside it becomes columns of its own with dotted headings."""
    found: list[Column] = []
    for name, field in model.model_fields.items():
        here = (*path, name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += columns(inner, here)
        else:
            found.append(Column(".".join(here), here, is_money(field)))
    return found


def export(form: Literal["csv", "xlsx"], name: str, model: type[Reply], rows: AsyncIterator[Reply]) -> Response:
    """A download called ``name``. Rows are read as fast as the caller takes them."""
    shape = columns(model)
    chunks = _csv(shape, rows) if form == "csv" else _xlsx(shape, rows)
    headers = {"content-disposition": f'attachment; filename="{name}.{form}"'}
    return StreamingResponse(chunks, 200, headers, _MEDIA_TYPES[form])


async def _csv(shape: Sequence[Column], rows: AsyncIterator[Reply]) -> AsyncIterator[bytes]:
    yield _lines([[column.heading for column in shape]])
    await asyncio.sleep(0)  # the headings leave before a row is written
    async for some in _some(rows):
        yield _lines([[_harmless(cell) for cell in _cells(shape, row)] for row in some])


async def _xlsx(shape: Sequence[Column], rows: AsyncIterator[Reply]) -> AsyncIterator[bytes]:
    book = Workbook([column.heading for column in shape])
    try:
        yield book.begin()
        await asyncio.sleep(0)
        async for some in _some(rows):
            if chunk := book.add([_typed(shape, row) for row in some]):
                yield chunk
        yield book.end()
    finally:
        book.close()


async def _some(rows: AsyncIterator[Reply]) -> AsyncIterator[list[Reply]]:
    """A few rows at a time: enough for a packet, few enough that calls beside it do not wait."""
    some: list[Reply] = []
    async for row in rows:
        some.append(row)
        if len(some) == _AT_ONCE:
            yield some
            some = []
            await asyncio.sleep(0)
    if some:
        yield some


def _cells(shape: Sequence[Column], row: Reply) -> list[Any]:
    document = row.model_dump(mode="json")
    return [_value(document, column.path) for column in shape]


def _typed(shape: Sequence[Column], row: Reply) -> list[Cell]:
    return [
        Cell(_text(value), number=column.money or (isinstance(value, int | float) and not isinstance(value, bool)))
        for column, value in zip(shape, _cells(shape, row), strict=True)
    ]


def _value(document: Any, path: Iterable[str]) -> Any:
    for step in path:
        document = document.get(step) if isinstance(document, dict) else None
    return document


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        return ", ".join(map(_text, value))
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else str(value)


def _harmless(value: Any) -> str:
    text = _text(value)
    return f"'{text}" if text.startswith(_CALCULATED) and not _NUMBER.fullmatch(text) else text


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()

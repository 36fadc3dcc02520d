"""Lists as files."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response, StreamingResponse

from admin_api.export import columns, export
from admin_api.wire import Instant, Reply, UsdOut
from ledger.money import NANO
from tests.admin_api.conftest import body_of


class Limits(Reply):
    """A reply in a reply."""

    models: list[str]
    budget: UsdOut | None


class Thing(Reply):
    """A row."""

    name: str
    amount: UsdOut
    at: Instant
    count: int
    live: bool
    limits: Limits
    detail: dict[str, Any] | None


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def thing(name: str = "x", amount: int = 0, detail: dict[str, Any] | None = None) -> Thing:
    limits = Limits(models=["a", "b"], budget=None)
    return Thing(name=name, amount=amount, at=NOW, count=-3, live=True, limits=limits, detail=detail)


async def rows(*things: Thing) -> AsyncIterator[Thing]:
    for each in things:
        yield each


async def whole(form: Literal["csv", "xlsx"], *things: Thing) -> bytes:
    reply = export(form, "things", Thing, rows(*things))
    assert isinstance(reply, StreamingResponse)
    return await body_of(reply)


HEADINGS = ["name", "amount", "at", "count", "live", "limits.models", "limits.budget", "detail"]


def test_a_reply_inside_a_reply_becomes_columns() -> None:
    assert [column.heading for column in columns(Thing)] == HEADINGS
    assert [column.heading for column in columns(Thing) if column.money] == ["amount", "limits.budget"]


async def test_a_csv_has_the_values_as_they_travel() -> None:
    text = (await whole("csv", thing('Ada, "the" one', -5 * NANO, {"a": [1]}))).decode()
    assert list(csv.reader(io.StringIO(text))) == [
        HEADINGS,
        ['Ada, "the" one', "-5.0000", "2026-11-21T12:00:00Z", "-3", "true", "a, b", "", '{"a":[1]}'],
    ]


async def test_an_xlsx_has_numbers_as_numbers() -> None:
    book = openpyxl.load_workbook(io.BytesIO(await whole("xlsx", thing("7", 12_345_678_900))))
    assert list(book.worksheets[0].values) == [
        tuple(HEADINGS),
        ("7", 12.3456789, "2026-11-21T12:00:00Z", -3, "true", "a, b", None, None),
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1+1", "-1+1", "@x", "\t=1", "\r=1", "\n=1"])
async def test_a_csv_has_nothing_to_calculate(name: str) -> None:
    text = (await whole("csv", thing(name))).decode()
    assert list(csv.reader(io.StringIO(text, newline="")))[1][0] == f"'{name}"


@given(st.text(max_size=30))
async def test_no_cell_of_a_csv_begins_a_formula(name: str) -> None:
    text = (await whole("csv", thing(name.encode("utf-8", "replace").decode()))).decode()
    cell = list(csv.reader(io.StringIO(text, newline="")))[1][0]
    assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n")) and (not cell.startswith("-") or float(cell) <= 0)


async def test_a_file_has_a_name_and_a_type() -> None:
    for form, kind in (("csv", "text/csv; charset=utf-8"), ("xlsx", "application/vnd.openxmlformats")):
        reply: Response = export(form, "things", Thing, rows())  # type: ignore[arg-type]
        assert reply.headers["content-type"].startswith(kind)
        assert reply.headers["content-disposition"] == f'attachment; filename="things.{form}"'


@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_the_first_bytes_come_before_any_row_is_read(form: Literal["csv", "xlsx"]) -> None:
    read = 0

    async def counted() -> AsyncIterator[Thing]:
        nonlocal read
        for _ in range(10_000):
            read += 1
            yield thing(str(uuid4()))

    reply = export(form, "things", Thing, counted())
    assert isinstance(reply, StreamingResponse)
    chunks = aiter(reply.body_iterator)
    assert await anext(chunks) and read == 0
    await anext(chunks)
    assert read < 10_000

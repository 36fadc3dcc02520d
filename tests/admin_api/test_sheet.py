"""Workbooks as streams, read by another program's reader."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from uuid import uuid4

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_api import sheet as module
from admin_api.sheet import Cell, Workbook


def written(headings: list[str], *chunks: list[list[Cell]]) -> bytes:
    """A whole workbook."""
    book = Workbook(headings)
    return b"".join([book.begin(), *(book.add(chunk) for chunk in chunks), book.end()])


def read(data: bytes) -> list[list[tuple[Any, ...]]]:
    """The rows of each sheet."""
    book = openpyxl.load_workbook(io.BytesIO(data))
    return [list(sheet.values) for sheet in book.worksheets]


def test_numbers_are_numbers_and_text_is_text() -> None:
    data = written(["a", "b", "c"], [[Cell("12.5000", True), Cell("12.5", False), Cell("")]])
    assert read(data) == [[("a", "b", "c"), (12.5, "12.5", None)]]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", '=HYPERLINK("x")']
)
def test_no_cell_is_a_formula(text: str) -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(["a"], [[Cell(text, True)], [Cell(text)]])))
    cells = [row[0] for row in book.worksheets[0].iter_rows(min_row=2)]
    for cell in cells:
        assert cell.data_type in ("inlineStr", "s") or (cell.data_type == "n" and text == "-1"), cell.data_type


TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=60)
@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=5))
def test_every_text_comes_back_but_for_what_xml_cannot_say(rows: list[list[str]]) -> None:
    (sheet,) = read(written(["a", "b"], [[Cell(text) for text in row] for row in rows]))
    kept = [tuple(module._NOT_XML.sub("", text) or None for text in row) for row in rows]
    assert [tuple(map(same, row)) for row in sheet[1:]] == [tuple(map(same, row)) for row in kept]


def same(text: str | None) -> str | None:
    """openpyxl reads escapes of its own (_x000D_) and one kind of line end."""
    if not text:
        return None
    return openpyxl.utils.escape.unescape(text).replace("\r\n", "\n").replace("\r", "\n") or None


def test_a_long_text_is_cut_to_what_a_cell_may_hold() -> None:
    ((_, (value,)),) = read(written(["a"], [[Cell("x" * 40_000)]]))
    assert len(value) == 32_767


def test_a_full_sheet_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_MAX", 3)
    data = written(["a"], [[Cell(str(number), True)] for number in range(5)])
    assert read(data) == [[("a",), (0,), (1,)], [("a",), (2,), (3,)], [("a",), (4,)]]


def test_the_first_bytes_come_before_the_first_row_and_what_was_added_leaves() -> None:
    book = Workbook(["a"])
    assert book.begin().startswith(b"PK\x03\x04")
    chunks = [[[Cell(str(uuid4()))] for _ in range(1000)] for _ in range(20)]
    left = [len(book.add(chunk)) for chunk in chunks]
    # The compressor keeps a few kilobytes back, and no more.
    assert len(book.end()) < sum(left) / 5


def test_a_workbook_is_a_fraction_of_its_text() -> None:
    assert len(written(["a"], [[Cell("the same text again")]] * 5000)) < 50_000


def test_no_part_has_a_date_so_that_the_same_list_is_the_same_file() -> None:
    archive = zipfile.ZipFile(io.BytesIO(written(["a"])))
    assert archive.testzip() is None
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert archive.infolist()[0].filename == "[Content_Types].xml"


def test_a_book_nobody_wants_to_the_end_is_let_go_of() -> None:
    book = Workbook(["name"])
    book.begin()
    book.add([[Cell("Ada")]])
    book.close()
    book.close()

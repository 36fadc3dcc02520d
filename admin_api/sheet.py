"""An XLSX workbook written as a stream: what is added leaves at once, and no row is kept.

Text stands in the cells themselves (inline), so that no table of strings has to come first. A sheet that is full is
followed by another.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from typing import IO, Any, NamedTuple
from xml.sax.saxutils import escape

_ROWS_MAX = 1_048_576
_CHARS_MAX = 32_767
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?", re.ASCII)
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# Sheets are typed by their extension, since how many there will be is not known when this part is written.
_TYPES = (
    f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Default Extension="xml" ContentType="{_SHEET_TYPE}.worksheet+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_SHEET_TYPE}.sheet.main+xml"/></Types>'
)
_ROOT = (
    f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
)


class Cell(NamedTuple):
    """One cell. ``number``: its text is a number, if it looks like one; otherwise it is text whatever it looks like."""

    text: str
    number: bool = False


class _Drain(io.RawIOBase):
    """Takes what the archive writes until somebody fetches it. It cannot seek, so the archive never tries to."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class Workbook:
    """``begin()``, ``add(rows)`` as often as wanted, ``end()``: each gives the bytes that are ready."""

    def __init__(self, headings: Sequence[str]) -> None:
        self._headings = [Cell(heading) for heading in headings]
        self._drain = _Drain()
        self._zip = zipfile.ZipFile(self._drain, "w")
        self._sheet: IO[bytes] | None = None
        self._sheets = 0
        self._rows = 0

    def begin(self) -> bytes:
        """The archive's first parts and the headings."""
        self._part("[Content_Types].xml", _TYPES)
        self._part("_rels/.rels", _ROOT)
        self._open_sheet()
        return self._drain.take()

    def add(self, rows: Sequence[Sequence[Cell]]) -> bytes:
        """These rows; may be empty while the compressor still waits for more."""
        for row in rows:
            if self._rows == _ROWS_MAX:
                self._close_sheet()
                self._open_sheet()
            self._write(row)
        return self._drain.take()

    def end(self) -> bytes:
        """What tells a reader which sheets there are, and the archive's end."""
        self._close_sheet()
        self._part("xl/workbook.xml", self._workbook())
        self._part("xl/_rels/workbook.xml.rels", self._relationships())
        self._zip.close()
        return self._drain.take()

    def close(self) -> None:
        """Let go of a book that nobody wants to the end; of a finished one, nothing is left to do."""
        if self._sheet is not None and not self._sheet.closed:
            self._sheet.close()
        self._zip.close()

    def _open_sheet(self) -> None:
        self._sheets += 1
        self._rows = 0
        self._sheet = self._zip.open(_entry(f"xl/worksheets/sheet{self._sheets}.xml"), "w")
        self._sheet.write(f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>'.encode())
        self._write(self._headings)

    def _close_sheet(self) -> None:
        assert self._sheet is not None
        self._sheet.write(b"</sheetData></worksheet>")
        self._sheet.close()

    def _write(self, row: Sequence[Cell]) -> None:
        assert self._sheet is not None
        self._rows += 1
        self._sheet.write(f"<row>{''.join(map(_cell, row))}</row>".encode())

    def _part(self, name: str, text: str) -> None:
        self._zip.writestr(_entry(name), text)

    def _workbook(self) -> str:
        sheets = "".join(
            f'<sheet name="Sheet{number}" sheetId="{number}" r:id="r{number}"/>' for number in self._numbers()
        )
        return f'{_HEAD}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>'

    def _relationships(self) -> str:
        parts = "".join(
            f'<Relationship Id="r{number}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{number}.xml"/>'
            for number in self._numbers()
        )
        return f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">{parts}</Relationships>'

    def _numbers(self) -> range:
        return range(1, self._sheets + 1)


def _entry(name: str) -> zipfile.ZipInfo:
    """A part without a date. It takes its compression from here, and not from the archive."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _cell(cell: Cell) -> str:
    if cell.number and _NUMBER.fullmatch(cell.text):
        return f"<c><v>{cell.text}</v></c>"
    if not cell.text:
        return "<c/>"
    text = escape(_NOT_XML.sub("", cell.text[:_CHARS_MAX]), {"\r": "&#13;"})
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'

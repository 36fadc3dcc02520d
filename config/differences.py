"""Where the operator's file and the database differ, entry by entry and field by field, and who wins at the next start.

Both may change the catalogue: a start applies an entry of the file only where it has changed in the file since it was
last applied; otherwise what the database has is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from config.catalog import Declared, Rates
from config.catalog_document import HIDDEN, is_secret, prices_document
from config.catalog_shelf import MODELS, TASKS, TIERS, UPSTREAMS, Shelf, declared_now
from config.catalog_sql import Digests, digest_of, translated
from config.form import Document

Where = Literal["file", "database", "both"]

_SHELVES: tuple[Shelf[Any, Any], ...] = (UPSTREAMS, MODELS, TIERS, TASKS)


class FieldDifference(NamedTuple):
    """A field that is said differently; None: not said there at all. Values as an operator writes them."""

    field: str
    file: Any
    database: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry that is in one of the two alone, or differs. ``applied``: the next start brings the file's into the
    database. ``retired``: the database has it, but offers it no longer."""

    noun: str
    name: str
    where: Where
    fields: tuple[FieldDifference, ...] = ()
    applied: bool = False
    retired: bool = False

    def line(self) -> str:
        """The difference in a sentence."""
        return f"{self.noun} {self.name}: {self._what()}; {self._outcome()}"

    def _what(self) -> str:
        if self.where == "both":
            return ", ".join(
                f"{each.field} is {each.file!r} in the file, {each.database!r} here" for each in self.fields
            )
        if self.where == "database":
            return "is not in the file"
        return "is in the file and retired here" if self.retired else "is in the file alone"

    def _outcome(self) -> str:
        return "the next start applies the file" if self.applied else "a start changes nothing"


class _Stored(NamedTuple):
    """What a row says besides its document: what of the file was applied last, and whether it is retired."""

    digests: Digests
    retired: bool


async def differences(engine: AsyncEngine, file: Declared) -> list[Difference]:
    """The file against what the database has now. Raises CatalogError."""
    async with translated(), engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        running = await declared_now(connection)
        stored = {shelf.noun: await _stored(connection, shelf) for shelf in _SHELVES}
    return [each for shelf in _SHELVES for each in _compared(shelf, file, running, stored[shelf.noun])]


async def _stored(connection: AsyncConnection, shelf: Shelf[Any, Any]) -> dict[str, _Stored]:
    table = shelf.table
    rows = await connection.execute(select(table.c.name, table.c.file_digest, table.c.retired_at))
    return {row.name: _Stored(Digests.parse(row.file_digest), row.retired_at is not None) for row in rows}


def _compared(
    shelf: Shelf[Any, Any], file: Declared, running: Declared, stored: Mapping[str, _Stored]
) -> Iterator[Difference]:
    ours, theirs = _entries(shelf, file), _entries(shelf, running)
    for name in sorted(ours | theirs):
        if name not in ours:
            yield Difference(shelf.noun, name, "database")
            continue
        row = stored.get(name, _Stored(Digests(), retired=False))
        applied = _changed(row.digests, shelf, ours[name], file.rates.get(name) if shelf is MODELS else None)
        if name not in theirs:
            yield Difference(shelf.noun, name, "file", applied=applied, retired=row.retired)
        elif fields := _fields(_document(shelf, ours[name], file), _document(shelf, theirs[name], running)):
            yield Difference(shelf.noun, name, "both", fields, applied)


def _changed(last: Digests, shelf: Shelf[Any, Any], value: Struct, rates: Rates | None) -> bool:
    """Whether the file says something else than when it was last applied."""
    repriced = rates is not None and digest_of(prices_document(rates)) != last.rates
    return repriced or digest_of(shelf.write(value, None)) != last.value


def _entries(shelf: Shelf[Any, Any], declared: Declared) -> dict[str, Struct]:
    values: Iterable[Struct] = getattr(declared, shelf.table.name)
    return {shelf.name_of(value): value for value in values}


def _document(shelf: Shelf[Any, Any], value: Struct, declared: Declared) -> Document:
    rates: Rates | None = declared.rates.get(shelf.name_of(value)) if shelf is MODELS else None
    return shelf.write(value, rates)


def _fields(file: Document, database: Document) -> tuple[FieldDifference, ...]:
    ours, theirs = dict(_flat(file)), dict(_flat(database))
    names = [name for name in dict.fromkeys((*ours, *theirs)) if ours.get(name) != theirs.get(name)]
    return tuple(FieldDifference(name, _shown(name, ours.get(name)), _shown(name, theirs.get(name))) for name in names)


def _flat(document: Document, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no table, by its path. A table that is there and empty is told from none."""
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


def _shown(field: str, value: Any) -> Any:
    table, _, header = field.partition(".")
    return HIDDEN if table == "headers" and value is not None and is_secret(header) else value

"""The catalogue's entries as an admin sees them: with version and age, the retired ones, too. Reads, never writes.

A shelf is one kind of entry: upstreams, models, tiers, or rules for tasks. It knows its table, form and document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct
from sqlalchemy import ColumnElement, Table, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from config.catalog import Declared, Model, Rates, Upstream
from config.catalog_document import model_document, task_document, tier_document, upstream_document
from config.catalog_forms import ModelForm, UpstreamForm
from config.catalog_sql import converted, prices_in_force, translated
from config.form import Document, Form
from config.tables import models, tasks, tiers, upstreams
from config.task_form import TaskForm
from config.tier_form import TierForm
from policies.task import TaskRule
from policies.tier import Tier

T = TypeVar("T", bound=Struct)
F = TypeVar("F", bound=Form)


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One entry as it stands. ``rates``: of a model that has a price in force."""

    value: T
    version: int
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None = None
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class Shelf(Generic[T, F]):
    """One kind of entry. ``noun`` is its word in sentences, ``key`` the field by which others refer to it."""

    noun: str
    key: str
    table: Table
    kind: type[T]
    form: type[F]
    write: Callable[[T, Rates | None], Document]
    read: Callable[[F], tuple[T, Rates | None]]

    def name_of(self, value: Struct | Form) -> str:
        name: str = getattr(value, self.key)
        return name

    def document(self, entry: Entry[T]) -> Document:
        """The entry as an operator writes it."""
        return self.write(entry.value, entry.rates)


UPSTREAMS: Shelf[Upstream, UpstreamForm] = Shelf(
    noun="upstream",
    key="name",
    table=upstreams,
    kind=Upstream,
    form=UpstreamForm,
    write=lambda value, _: upstream_document(value),
    read=lambda form: (form.value(), None),
)
MODELS: Shelf[Model, ModelForm] = Shelf(
    noun="model",
    key="id",
    table=models,
    kind=Model,
    form=ModelForm,
    write=model_document,
    read=lambda form: (form.value(), form.rates()),
)
TIERS: Shelf[Tier, TierForm] = Shelf(
    noun="tier",
    key="name",
    table=tiers,
    kind=Tier,
    form=TierForm,
    write=lambda value, _: tier_document(value),
    read=lambda form: (form.value(), None),
)
TASKS: Shelf[TaskRule, TaskForm] = Shelf(
    noun="task",
    key="name",
    table=tasks,
    kind=TaskRule,
    form=TaskForm,
    write=lambda value, _: task_document(value),
    read=lambda form: (form.value(), None),
)


async def find_entry(engine: AsyncEngine, shelf: Shelf[T, F], name: str) -> Entry[T] | None:
    """The entry of this name, retired or not. Raises CatalogError."""
    async with translated(), engine.connect() as connection:
        return await found(connection, shelf, name)


async def list_entries(
    engine: AsyncEngine, shelf: Shelf[T, F], *, search: str = "", retired: bool = False, after: str = "", limit: int
) -> list[Entry[T]]:
    """Entries in the order of their names, from the first after ``after`` on; ``search`` is a part of name or title,
    ``retired`` brings those no longer offered. Raises CatalogError."""
    table = shelf.table
    wanted = [table.c.name > after, *_search(table, search)]
    if not retired:
        wanted.append(table.c.retired_at.is_(None))
    async with translated(), engine.connect() as connection:
        return await _entries(connection, shelf, *wanted, limit=limit)


async def whole_catalog(engine: AsyncEngine) -> Declared:
    """All that is offered, as of one instant, as a file would declare it. Raises CatalogError."""
    async with translated(), engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        return await declared_now(connection)


async def found(connection: AsyncConnection, shelf: Shelf[T, F], name: str) -> Entry[T] | None:
    """``find_entry`` in a transaction of the caller's."""
    entries = await _entries(connection, shelf, shelf.table.c.name == name)
    return entries[0] if entries else None


async def declared_now(connection: AsyncConnection) -> Declared:
    """``whole_catalog`` in a transaction of the caller's."""
    backends = await _entries(connection, UPSTREAMS, upstreams.c.retired_at.is_(None))
    offered = await _entries(connection, MODELS, models.c.retired_at.is_(None))
    granted = await _entries(connection, TIERS, tiers.c.retired_at.is_(None))
    ruled = await _entries(connection, TASKS, tasks.c.retired_at.is_(None))
    return Declared(
        tuple(entry.value for entry in backends),
        tuple(entry.value for entry in offered),
        tuple(entry.value for entry in granted),
        {entry.value.id: entry.rates for entry in offered if entry.rates is not None},
        tuple(entry.value for entry in ruled),
    )


async def _entries(
    connection: AsyncConnection, shelf: Shelf[T, F], *wanted: ColumnElement[bool], limit: int | None = None
) -> list[Entry[T]]:
    columns = [shelf.table.c[name] for name in ("name", "doc", "version", "created_at", "updated_at", "retired_at")]
    rows = (await connection.execute(select(*columns).where(*wanted).order_by(shelf.table.c.name).limit(limit))).all()
    prices = await prices_in_force(connection) if shelf.kind is Model and rows else {}
    rates = {name: price.rates for name, price in prices.items()}
    return [_entry(shelf, row, rates) for row in rows]


def _entry(shelf: Shelf[T, F], row: Any, rates: Mapping[str, Rates]) -> Entry[T]:
    value = converted(row.doc, shelf.kind, f"{shelf.noun} {row.name}")
    return Entry(value, row.version, row.created_at, row.updated_at, row.retired_at, rates.get(row.name))


def _search(table: Table, text: str) -> list[ColumnElement[bool]]:
    """A part of the name or title, in whatever case; no character of it is a wildcard."""
    if not text:
        return []
    part = text.lower()
    haystacks = (func.lower(table.c.name), func.lower(table.c.doc["title"].astext))
    return [or_(*(func.strpos(haystack, part) > 0 for haystack in haystacks))]

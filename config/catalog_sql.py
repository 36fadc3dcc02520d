"""The catalogue in the database: seeded from the operator's file, read as one snapshot. The only SQL about it.

The file and the admin API may both change the catalogue, and neither undoes the other by accident: a restart applies
an entry of the file only where it has changed since it was last applied. A price is never edited; a new one begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Table, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from config.catalog import Catalog, Declared, Model, Rates, Upstream
from config.tables import models, prices, tiers, upstreams
from ledger.price import Price
from policies.tier import Tier

# Replicas that start together seed one after the other.
_SEED_LOCK = 0x66625F73656564  # "fb_seed"

T = TypeVar("T", bound=msgspec.Struct)


class CatalogError(Exception):
    """The catalogue cannot be read: the database is away, or one of its documents is not understood."""


class Snapshot(NamedTuple):
    """The catalogue in force, and after how many seconds a price already entered comes into force (None: none is)."""

    catalog: Catalog
    next_price_in_s: float | None


async def seed(engine: AsyncEngine, declared: Declared) -> None:
    """Bring what is new or changed in the operator's file into the database. Raises CatalogError."""
    async with _translated(), engine.begin() as connection:
        await connection.execute(select(func.pg_advisory_xact_lock(_SEED_LOCK)))
        await _seed_documents(connection, upstreams, {upstream.name: upstream for upstream in declared.upstreams})
        await _seed_documents(connection, models, {model.id: model for model in declared.models}, declared.rates)
        await _seed_documents(connection, tiers, {tier.name: tier for tier in declared.tiers})


async def add_prices(engine: AsyncEngine, rates: Mapping[str, Rates], effective_at: datetime | None = None) -> None:
    """A new price for each of these models, all or none, from that instant on (None: from now). Raises CatalogError."""
    rows = [{"model_id": model_id, "doc": msgspec.to_builtins(each)} for model_id, each in rates.items()]
    begins = {} if effective_at is None else {"effective_at": effective_at}
    if rows:
        async with _translated(), engine.begin() as connection:
            await connection.execute(insert(prices), [row | begins for row in rows])


async def load(engine: AsyncEngine) -> Catalog:
    """The catalogue in force now. Raises CatalogError."""
    return (await read(engine)).catalog


async def read(engine: AsyncEngine) -> Snapshot:
    """The catalogue in force now, all tables as of one instant. Raises CatalogError."""
    async with _translated(), engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        in_force = await _prices_in_force(connection)
        offered = await _documents(connection, models, Model)
        backends = await _documents(connection, upstreams, Upstream)
        # A retired tier is offered to nobody new, but whoever has it keeps what it grants.
        granted = await _documents(connection, tiers, Tier, retired=True)
        wait = await connection.scalar(_NEXT_PRICE)
    offered = {name: model for name, model in offered.items() if model.upstream in backends}
    catalog = Catalog(backends, offered, granted, in_force, _revision(backends, offered, granted, in_force))
    return Snapshot(catalog, None if wait is None else max(0.0, float(wait)))


_NEXT_PRICE = text("SELECT extract(epoch FROM min(effective_at) - now()) FROM prices WHERE effective_at > now()")


async def _prices_in_force(connection: AsyncConnection) -> dict[str, Price]:
    query = (
        select(prices.c.version, prices.c.model_id, prices.c.doc)
        .where(prices.c.effective_at <= func.now())
        .order_by(prices.c.model_id, prices.c.effective_at.desc(), prices.c.version.desc())
        .ext(distinct_on(prices.c.model_id))
    )
    return {row.model_id: _price(row) for row in await connection.execute(query)}


def _price(row: Any) -> Price:
    rates = _converted(row.doc, Rates, f"price {row.version}")
    return Price.of(row.version, row.model_id, rates)


async def _documents(
    connection: AsyncConnection, table: Table, kind: type[T], *, retired: bool = False
) -> dict[str, T]:
    query = select(table.c.name, table.c.doc).order_by(table.c.name)
    if not retired:
        query = query.where(table.c.retired_at.is_(None))
    found = await connection.execute(query)
    return {row.name: _converted(row.doc, kind, f"{table.name} {row.name}") for row in found}


def _converted(doc: Any, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(doc, kind)
    except msgspec.ValidationError as error:
        raise CatalogError(f"the database's document of {what} is not understood: {error}") from error


async def _seed_documents(
    connection: AsyncConnection,
    table: Table,
    values: Mapping[str, msgspec.Struct],
    rates: Mapping[str, Rates] | None = None,
) -> None:
    found = await connection.execute(select(table.c.name, table.c.file_digest))
    applied: dict[str, str | None] = {row.name: row.file_digest for row in found}
    for name, value in values.items():
        before = _Digests.parse(applied.get(name))
        after = _Digests(_digest(value), _digest(rates[name]) if rates and name in rates else "")
        if after != before:
            await _upsert(connection, table, name, value, after, changed=after.value != before.value)
        if rates and name in rates and after.rates != before.rates:
            await _add_price(connection, name, rates[name])


class _Digests(NamedTuple):
    """What of the file was applied last: the entry and, for a model, its prices. Each is compared for itself."""

    value: str = ""
    rates: str = ""

    @classmethod
    def parse(cls, stored: str | None) -> _Digests:
        value, _, rates = (stored or "").partition(":")
        return cls(value, rates)

    def __str__(self) -> str:
        return f"{self.value}:{self.rates}"


def _digest(value: msgspec.Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


async def _upsert(
    connection: AsyncConnection, table: Table, name: str, value: msgspec.Struct, digests: _Digests, *, changed: bool
) -> None:
    row = {"name": name, "doc": msgspec.to_builtins(value), "file_digest": str(digests)}
    statement = insert(table).values(row)
    news: dict[str, Any] = {"file_digest": statement.excluded.file_digest}
    if changed:
        news |= {"doc": statement.excluded.doc, "version": table.c.version + literal_column("1")}
        news |= {"updated_at": func.now(), "retired_at": None}
    await connection.execute(statement.on_conflict_do_update(index_elements=[table.c.name], set_=news))


async def _add_price(connection: AsyncConnection, model_id: str, rates: Rates) -> None:
    """A price that begins now, unless what is in force says the same."""
    current = (await _prices_in_force(connection)).get(model_id)
    if current is None or current.rates != rates:
        await connection.execute(insert(prices).values(model_id=model_id, doc=msgspec.to_builtins(rates)))


def _revision(*parts: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(msgspec.json.encode(part, order="sorted"))
    return digest.hexdigest()[:16]


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise CatalogError(f"the catalogue's database did not answer: {type(error).__name__}") from error

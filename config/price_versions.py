"""The versions of a model's price: what it was, is and will be. Reads, and enters new ones; none is ever edited.

A version holds from its instant on until another one's. Whoever enters a second version for the same instant replaces
the first before it was ever in force: that is how a planned price is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Select, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from config.catalog import Rates
from config.catalog_sql import converted, translated
from config.tables import prices
from ledger.price import Price

State = Literal["planned", "in_force", "past", "superseded"]
Place = tuple[datetime, int]
"""Where a version stands in the list: its instant, then its number."""


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """One version. ``until`` is the instant of the next one, None while there is none."""

    version: int
    model: str
    rates: Rates
    effective_at: datetime
    created_at: datetime
    until: datetime | None
    state: State


async def price_versions(
    engine: AsyncEngine, model_id: str, *, before: Place | None = None, limit: int
) -> list[PriceVersion]:
    """A model's versions, the latest instant first. Raises CatalogError."""
    query = _versions(model_id)
    listed = select(query.subquery())
    if before is not None:
        listed = listed.where(tuple_(listed.selected_columns.effective_at, listed.selected_columns.version) < before)
    listed = listed.order_by(literal_column("effective_at DESC"), literal_column("version DESC")).limit(limit)
    async with translated(), engine.connect() as connection:
        return [_version(row) for row in await connection.execute(listed)]


async def find_price_version(engine: AsyncEngine, model_id: str, version: int) -> PriceVersion | None:
    """This version, if it is this model's. Raises CatalogError."""
    async with translated(), engine.connect() as connection:
        return await price_version(connection, model_id, version)


async def price_version(connection: AsyncConnection, model_id: str, version: int) -> PriceVersion | None:
    """``find_price_version`` in a transaction of the caller's."""
    query = select(_versions(model_id).subquery())
    row = (await connection.execute(query.where(query.selected_columns.version == version))).one_or_none()
    return None if row is None else _version(row)


async def price_at(engine: AsyncEngine, model_id: str, at: datetime) -> Price | None:
    """The model's price as it was in force at an instant. Raises CatalogError."""
    query = select(prices.c.version, prices.c.doc).where(prices.c.model_id == model_id, prices.c.effective_at <= at)
    latest = query.order_by(prices.c.effective_at.desc(), prices.c.version.desc()).limit(1)
    async with translated(), engine.connect() as connection:
        row = (await connection.execute(latest)).one_or_none()
    if row is None:
        return None
    return Price.of(row.version, model_id, converted(row.doc, Rates, f"price {row.version}"))


async def enter_price(
    connection: AsyncConnection, model_id: str, rates: Rates, effective_at: datetime | None
) -> PriceVersion:
    """A version that begins at that instant (None: now)."""
    row = {"model_id": model_id, "doc": msgspec.to_builtins(rates)}
    row |= {} if effective_at is None else {"effective_at": effective_at}
    version = await connection.scalar(insert(prices).values(row).returning(prices.c.version))
    entered = await price_version(connection, model_id, version)
    assert entered is not None
    return entered


def _versions(model_id: str) -> Select[Any]:
    """Every version of the model beside the instant of the one after it."""
    order = (prices.c.effective_at, prices.c.version)
    until = func.lead(prices.c.effective_at).over(order_by=order).label("until")
    columns = (prices.c.version, prices.c.model_id, prices.c.doc, prices.c.effective_at, prices.c.created_at)
    return select(*columns, until, func.now().label("now")).where(prices.c.model_id == model_id)


def _version(row: Any) -> PriceVersion:
    rates = converted(row.doc, Rates, f"price {row.version}")
    return PriceVersion(row.version, row.model_id, rates, row.effective_at, row.created_at, row.until, _state(row))


def _state(row: Any) -> State:
    if row.until == row.effective_at:
        return "superseded"
    if row.effective_at > row.now:
        return "planned"
    return "in_force" if row.until is None or row.until > row.now else "past"

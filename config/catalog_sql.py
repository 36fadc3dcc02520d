"""The catalogue in the database: seeded from the operator's file, read as one snapshot. The only SQL about it.

The file and the admin API may both change the catalogue, and neither undoes the other by accident: a restart applies
an entry of the file only where it has changed since it was last applied. A price is never edited; a new one begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import Table, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from config.catalog import Catalog, Declared, Model, Rates, Upstream
from config.catalog_document import (
    model_document,
    prices_document,
    task_document,
    tier_document,
    upstream_document,
)
from config.form import Document
from config.shipped import shipped_tiers
from config.tables import groups, models, prices, tasks, tiers, upstreams
from ledger.price import Price
from ledger.system_events import record
from policies.group import Group
from policies.task import TaskRule
from policies.tier import Tier

# Whoever writes the catalogue does it alone: replicas that start together, admins.
_TURN = 0x66625F73656564  # "fb_seed"

T = TypeVar("T", bound=msgspec.Struct)


class CatalogError(Exception):
    """The catalogue cannot be read: the database is away, or one of its documents is not understood."""


class Snapshot(NamedTuple):
    """The catalogue in force, and after how many seconds a price already entered comes into force (None: none is)."""

    catalog: Catalog
    next_price_in_s: float | None


async def seed(engine: AsyncEngine, declared: Declared) -> None:
    """Bring what is new or changed in the operator's file into the database, and the shipped tiers where nobody has
    declared any. Raises CatalogError."""
    async with translated(), engine.begin() as connection:
        await take_turn(connection)
        backends = {upstream.name: upstream for upstream in declared.upstreams}
        offered = {model.id: model for model in declared.models}
        granted = {tier.name: tier for tier in declared.tiers or await _shipped(connection)}
        ruled = {rule.name: rule for rule in declared.tasks}
        applied = {
            "upstreams": await _seed_documents(connection, upstreams, backends, upstream_document),
            "models": await _seed_documents(connection, models, offered, model_document, declared.rates),
            "tiers": await _seed_documents(connection, tiers, granted, tier_document),
            "tasks": await _seed_documents(connection, tasks, ruled, task_document),
        }
        if news := {table: names for table, names in applied.items() if names}:
            await record(connection, "info", "catalog.seeded", **news)


async def _shipped(connection: AsyncConnection) -> tuple[Tier, ...]:
    """The tiers to begin with; none where there was ever one."""
    known = await connection.scalar(select(tiers.c.name).limit(1))
    return shipped_tiers() if known is None else ()


async def take_turn(connection: AsyncConnection) -> None:
    """Wait until nobody else writes the catalogue; the turn ends with the transaction. What is read from then on is
    what is there: entries that must fit each other are looked at and written in one turn."""
    await connection.execute(select(func.pg_advisory_xact_lock(_TURN)))


async def add_prices(engine: AsyncEngine, rates: Mapping[str, Rates], effective_at: datetime | None = None) -> None:
    """A new price for each of these models, all or none, from that instant on (None: from now). Raises CatalogError."""
    rows = [{"model_id": model_id, "doc": msgspec.to_builtins(each)} for model_id, each in rates.items()]
    begins = {} if effective_at is None else {"effective_at": effective_at}
    if rows:
        async with translated(), engine.begin() as connection:
            await connection.execute(insert(prices), [row | begins for row in rows])


async def load(engine: AsyncEngine) -> Catalog:
    """The catalogue in force now. Raises CatalogError."""
    return (await read(engine)).catalog


async def read(engine: AsyncEngine) -> Snapshot:
    """The catalogue in force now, all tables as of one instant. Raises CatalogError."""
    async with translated(), engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        in_force = await prices_in_force(connection)
        offered = await _documents(connection, models, Model)
        backends = await _documents(connection, upstreams, Upstream)
        # A retired tier is offered to nobody new, but whoever has it keeps what it grants.
        granted = await _documents(connection, tiers, Tier, retired=True)
        retired = frozenset(await connection.scalars(select(tiers.c.name).where(tiers.c.retired_at.is_not(None))))
        ruled = await _documents(connection, tasks, TaskRule)
        belonging = await _groups(connection)
        shown = await connection.scalar(_SHOWN)
        wait = await connection.scalar(_NEXT_PRICE)
    offered = {name: model for name, model in offered.items() if model.upstream in backends}
    named = {str(group_id): group for group_id, group in belonging.items()}
    gone, seen = dict.fromkeys(retired), {"shown": shown}
    revision = _revision(backends, offered, granted, in_force, named, ruled, gone, seen)
    found = None if shown is None else frozenset(shown)
    catalog = Catalog(backends, offered, granted, in_force, revision, belonging, ruled, retired, found)
    return Snapshot(catalog, None if wait is None else max(0.0, float(wait)))


# What nobody has looked at for so long says nothing any more.
_SHOWN = text("""
    SELECT array_agg(DISTINCT model ORDER BY model) FROM openwebui_models, unnest(shown) AS model
    WHERE at > now() - interval '30 days'
""")
_NEXT_PRICE = text("SELECT extract(epoch FROM min(effective_at) - now()) FROM prices WHERE effective_at > now()")


async def prices_in_force(connection: AsyncConnection) -> dict[str, Price]:
    query = (
        select(prices.c.version, prices.c.model_id, prices.c.doc)
        .where(prices.c.effective_at <= func.now())
        .order_by(prices.c.model_id, prices.c.effective_at.desc(), prices.c.version.desc())
        .ext(distinct_on(prices.c.model_id))
    )
    return {row.model_id: _price(row) for row in await connection.execute(query)}


def _price(row: Any) -> Price:
    rates = converted(row.doc, Rates, f"price {row.version}")
    return Price.of(row.version, row.model_id, rates)


async def _documents(
    connection: AsyncConnection, table: Table, kind: type[T], *, retired: bool = False
) -> dict[str, T]:
    query = select(table.c.name, table.c.doc).order_by(table.c.name)
    if not retired:
        query = query.where(table.c.retired_at.is_(None))
    found = await connection.execute(query)
    return {row.name: converted(row.doc, kind, f"{table.name} {row.name}") for row in found}


async def _groups(connection: AsyncConnection) -> dict[UUID, Group]:
    columns = (groups.c.id, groups.c.name, groups.c.wallet_id, groups.c.doc)
    query = select(*columns).where(groups.c.retired_at.is_(None)).order_by(groups.c.id)
    return {row.id: group_of(row) for row in await connection.execute(query)}


def group_of(row: Any) -> Group:
    """A group of its id, name, wallet_id and doc. Raises CatalogError."""
    fixed = {"id": str(row.id), "name": row.name, "wallet_id": str(row.wallet_id)}
    return converted(row.doc | fixed, Group, f"group {row.name}")


def converted(doc: Any, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(doc, kind)
    except msgspec.ValidationError as error:
        raise CatalogError(f"the database's document of {what} is not understood: {error}") from error


async def _seed_documents(
    connection: AsyncConnection,
    table: Table,
    values: Mapping[str, T],
    written: Callable[[T], Document],
    rates: Mapping[str, Rates] | None = None,
) -> list[str]:
    """The names of those that had changed."""
    news = []
    found = await connection.execute(select(table.c.name, table.c.file_digest))
    applied: dict[str, str | None] = {row.name: row.file_digest for row in found}
    for name, value in values.items():
        before = Digests.parse(applied.get(name))
        priced = digest_of(prices_document(rates[name])) if rates and name in rates else ""
        after = Digests(digest_of(written(value)), priced)
        if after != before:
            news.append(name)
            await _upsert(connection, table, name, value, after, changed=after.value != before.value)
        if rates and name in rates and after.rates != before.rates:
            await _add_price(connection, name, rates[name])
    return news


class Digests(NamedTuple):
    """What of the file was applied last: the entry and, for a model, its prices. Each is compared for itself."""

    value: str = ""
    rates: str = ""

    @classmethod
    def parse(cls, stored: str | None) -> Digests:
        value, _, rates = (stored or "").partition(":")
        return cls(value, rates)

    def __str__(self) -> str:
        return f"{self.value}:{self.rates}"


def digest_of(document: Document) -> str:
    """Of what an operator wrote, without what is usual: a field that a later release brings changes no entry."""
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


async def _upsert(
    connection: AsyncConnection, table: Table, name: str, value: msgspec.Struct, digests: Digests, *, changed: bool
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
    current = (await prices_in_force(connection)).get(model_id)
    if current is None or current.rates != rates:
        await connection.execute(insert(prices).values(model_id=model_id, doc=msgspec.to_builtins(rates)))


def _revision(*parts: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(msgspec.json.encode(part, order="sorted"))
    return digest.hexdigest()[:16]


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """A database that does not answer, as a CatalogError."""
    try:
        yield
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise CatalogError(f"the catalogue's database did not answer: {type(error).__name__}") from error

"""Changes of the catalogue that an admin makes: each checked against all the rest, written alone, and audited.

Whoever writes has read before: a change names the version it was made on. Nothing is deleted; what is no longer
offered is retired, and may be restored. Every replica hears of a change with its commit (see ``watch.py``); a call that
is running keeps the snapshot it began with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import DateTime, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from config.catalog import Declared, Rates, complaints
from config.catalog_document import concealed, prices_document
from config.catalog_shelf import MODELS, TASKS, UPSTREAMS, Entry, Shelf, declared_now, found
from config.catalog_sql import take_turn, translated
from config.complaints import Complaint, ComplaintsError
from config.form import Document, Form
from config.price_versions import PriceVersion, enter_price
from config.tables import groups
from ledger import audit
from ledger.audit import SYSTEM, Actor, Change

T = TypeVar("T", bound=Struct)
F = TypeVar("F", bound=Form)
Deed = Literal["create", "change", "retire", "restore"]

_SHOWN = 20


class StaleWrite(Exception):
    """Somebody else has written since: the entry is at ``version``."""

    def __init__(self, version: int) -> None:
        super().__init__(f"it is at version {version}")
        self.version = version


class NameTaken(Exception):
    """There is an entry of this name already."""

    def __init__(self, noun: str, name: str, *, retired: bool) -> None:
        retired_too = ", which is retired: restore it, or take another name" if retired else ""
        super().__init__(f"there is a {noun} {name} already{retired_too}")


class Retired(Exception):
    """The entry is retired, so it cannot be changed."""

    def __init__(self, noun: str, name: str) -> None:
        super().__init__(f"the {noun} {name} is retired: restore it first")


class InUse(Exception):
    """The entry cannot be retired: ``uses`` says by whom it is used."""

    def __init__(self, uses: Sequence[str]) -> None:
        self.uses = tuple(uses)
        more = f" and {len(uses) - _SHOWN} more" if len(uses) > _SHOWN else ""
        super().__init__(f"it is used by {', '.join(uses[:_SHOWN])}{more}")


class NoEntry(LookupError):
    """There is no entry of this name, and never was."""


class CatalogWriter:
    """What an admin may do to the catalogue. Every method may raise CatalogError (the database is away)."""

    def __init__(self, engine: AsyncEngine, *, default_tier: str) -> None:
        self._engine = engine
        self._default_tier = default_tier

    async def create(self, shelf: Shelf[T, F], form: F, *, by: Actor = SYSTEM) -> Entry[T]:
        """A new entry. Raises NameTaken, ComplaintsError where it does not fit the others."""
        value, rates = shelf.read(form)
        name = shelf.name_of(value)
        async with self._turn() as connection:
            taken = await found(connection, shelf, name)
            if taken is not None:
                raise NameTaken(shelf.noun, name, retired=taken.retired_at is not None)
            _check(shelf, value, await declared_now(connection))
            await connection.execute(insert(shelf.table).values(name=name, doc=msgspec.to_builtins(value)))
            if rates is not None:
                await enter_price(connection, name, rates, None)
            return await _told(connection, shelf, name, "create", None, by)

    async def change(
        self, shelf: Shelf[T, F], name: str, amend: Callable[[Document], F], *, expected: int, by: Actor = SYSTEM
    ) -> Entry[T]:
        """The entry as ``amend`` makes it of its document; a price that differs begins now. What ``amend`` raises goes
        through. Raises NoEntry, Retired, StaleWrite, ComplaintsError."""
        async with self._turn() as connection:
            before = await _live(connection, shelf, name, expected)
            value, rates = shelf.read(amend(shelf.document(before)))
            _keep(shelf, name, value, before.rates, rates)
            if (value, rates) == (before.value, before.rates):
                return before
            _check(shelf, value, await declared_now(connection))
            await _update(connection, shelf, name, doc=msgspec.to_builtins(value))
            if rates is not None and rates != before.rates:
                await enter_price(connection, name, rates, None)
            return await _told(connection, shelf, name, "change", before, by)

    async def retire(
        self, shelf: Shelf[T, F], name: str, *, expected: int, users: Iterable[str] = (), by: Actor = SYSTEM
    ) -> Entry[T]:
        """Offer it no longer; once more does nothing. ``users``: who else uses it, as far as the caller knows. Raises
        NoEntry, StaleWrite, InUse."""
        async with self._turn() as connection:
            before = await _known(connection, shelf, name, expected)
            if before.retired_at is not None:
                return before
            if uses := [*await self._uses(connection, shelf, name), *users]:
                raise InUse(uses)
            await _update(connection, shelf, name, retired_at=func.now())
            return await _told(connection, shelf, name, "retire", before, by)

    async def restore(self, shelf: Shelf[T, F], name: str, *, by: Actor = SYSTEM) -> Entry[T]:
        """Offer it again as it was; once more does nothing. Raises NoEntry, and ComplaintsError where it no longer
        fits the others."""
        async with self._turn() as connection:
            before = await _known(connection, shelf, name)
            if before.retired_at is None:
                return before
            _check(shelf, before.value, await declared_now(connection))
            await _update(connection, shelf, name, retired_at=None)
            return await _told(connection, shelf, name, "restore", before, by)

    async def add_price(
        self, model_id: str, rates: Rates, effective_at: datetime | None = None, *, by: Actor = SYSTEM
    ) -> PriceVersion:
        """A version that begins at that instant (None: now). Raises NoEntry, Retired, ComplaintsError for an instant
        that has passed."""
        async with self._turn() as connection:
            model = await _live(connection, MODELS, model_id)
            if effective_at is not None and await _has_passed(connection, effective_at):
                what = "has passed: what was charged since stays charged, so a price cannot begin before now"
                raise ComplaintsError([Complaint("effective_at", what)])
            entered = await enter_price(connection, model_id, rates, effective_at)
            # The model's version tells of its price, too: who changes it on an older one is told.
            await _update(connection, MODELS, model_id)
            before = None if model.rates is None else prices_document(model.rates)
            after = {"version": entered.version, "effective_at": entered.effective_at, "prices": prices_document(rates)}
            change = Change("model.price", MODELS.noun, model_id, before, after)
            await audit.append(await audit.driver(connection), by, change)
            return entered

    async def _uses(self, connection: AsyncConnection, shelf: Shelf[Any, Any], name: str) -> list[str]:
        """By whom else in the catalogue the entry is used, in words."""
        catalog = await declared_now(connection)
        if shelf is UPSTREAMS:
            return [f"model {model.id}" for model in catalog.models if model.upstream == name]
        if shelf is MODELS:
            uses = [f"model {model.id} (as its fallback)" for model in catalog.models if model.fallback == name]
            return uses + [f"task {rule.name} (it is answered by it)" for rule in catalog.tasks if rule.model == name]
        if shelf is TASKS:
            return []
        own = ["new users (it is the default tier)"] if name == self._default_tier else []
        own += [f"tier {tier.name} (as its upgrade)" for tier in catalog.tiers if tier.upgrade_to == name]
        query = select(groups.c.name).where(groups.c.doc["tier"].astext == name, groups.c.retired_at.is_(None))
        return own + [f"group {row.name}" for row in await connection.execute(query.order_by(groups.c.name))]

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[AsyncConnection]:
        async with translated(), self._engine.begin() as connection:
            await take_turn(connection)
            yield connection


async def _has_passed(connection: AsyncConnection, instant: datetime) -> bool:
    """By the database's clock, which is the one prices come into force by."""
    return bool(await connection.scalar(select(literal(instant, DateTime(timezone=True)) < func.now())))


async def _known(connection: AsyncConnection, shelf: Shelf[T, F], name: str, expected: int | None = None) -> Entry[T]:
    entry = await found(connection, shelf, name)
    if entry is None:
        raise NoEntry(name)
    if expected not in (None, entry.version):
        raise StaleWrite(entry.version)
    return entry


async def _live(connection: AsyncConnection, shelf: Shelf[T, F], name: str, expected: int | None = None) -> Entry[T]:
    entry = await _known(connection, shelf, name, expected)
    if entry.retired_at is not None:
        raise Retired(shelf.noun, name)
    return entry


def _keep(shelf: Shelf[T, F], name: str, value: T, before: Rates | None, after: Rates | None) -> None:
    """What a change must leave as it is. Raises ComplaintsError."""
    wrong = []
    if shelf.name_of(value) != name:
        wrong.append(Complaint(shelf.key, "cannot be changed: users, keys and charges refer to it"))
    if before is not None and after is None:
        wrong.append(Complaint("prices", "cannot be taken away: calls without a price are refused; retire the model"))
    if wrong:
        raise ComplaintsError(wrong)


def _check(shelf: Shelf[T, F], value: T, catalog: Declared) -> None:
    """Whether the entry fits all the others. Raises ComplaintsError with paths inside the entry."""
    plural, name = shelf.table.name, shelf.name_of(value)
    entries = {shelf.name_of(each): each for each in getattr(catalog, plural)} | {name: value}
    place = f"{plural}[{list(entries).index(name)}]."
    told = complaints(msgspec.structs.replace(catalog, **{plural: tuple(entries.values())}))
    if wrong := [Complaint(each.where.removeprefix(place), each.what) for each in told if each.where.startswith(place)]:
        raise ComplaintsError(wrong)


async def _update(connection: AsyncConnection, shelf: Shelf[Any, Any], name: str, **changes: Any) -> None:
    table = shelf.table
    changes |= {"version": table.c.version + 1, "updated_at": func.now()}
    await connection.execute(update(table).where(table.c.name == name).values(changes))


async def _told(
    connection: AsyncConnection, shelf: Shelf[T, F], name: str, deed: Deed, before: Entry[T] | None, by: Actor
) -> Entry[T]:
    """The entry as it is written, with the audit's row of how it came."""
    after = await found(connection, shelf, name)
    assert after is not None
    change = Change(f"{shelf.noun}.{deed}", shelf.noun, name, _shown(shelf, before), _shown(shelf, after))
    await audit.append(await audit.driver(connection), by, change)
    return after


def _shown(shelf: Shelf[T, F], entry: Entry[T] | None) -> Document | None:
    if entry is None:
        return None
    retired = {"retired_at": entry.retired_at} if entry.retired_at else {}
    return concealed(shelf.document(entry)) | {"version": entry.version} | retired

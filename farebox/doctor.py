"""`farebox doctor`: looks at everything a Farebox stands on, and says all that is wrong at once. It changes nothing.

Beside a running Farebox it looks at the same engines; without one it starts the embedded ones for as long as it looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import asyncpg
from msgspec.structs import replace
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from config.catalog import Declared
from config.catalog_shelf import whole_catalog
from config.catalog_sql import CatalogError
from config.differences import Difference, differences
from config.settings import Settings
from config.shipped import shipped_tiers
from farebox.check_catalog import look_at_catalog
from farebox.check_database import look_at_database, schema_is_current
from farebox.check_folder import look_at_folder
from farebox.check_redis import look_at_redis
from farebox.check_upstreams import look_at_upstreams
from farebox.engines import EnginesError
from farebox.findings import Found
from farebox.serve import engines
from ledger.engine import make_engine

_AREA_S = 60.0
_AWAY = (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, CatalogError)


async def examine(settings: Settings | None, file: Declared | None, complaints: Sequence[str]) -> list[Found]:
    """All that is found. ``complaints`` are what is wrong with the settings and the file, of which the one that cannot
    be used is None."""
    found = [Found("configuration", "settings", "error", complaint) for complaint in complaints]
    if settings is None:
        return [*found, Found("configuration", "settings", "note", "the rest cannot be looked at with these")]
    if not complaints:
        found.append(Found("configuration", "settings", "ok", "file and environment are understood"))
    found += await asyncio.to_thread(lambda: list(look_at_folder(settings.data_dir, settings.limits.upload_room_bytes)))
    return [*found, *await _on_engines(settings, file)]


async def _on_engines(settings: Settings, file: Declared | None) -> list[Found]:
    try:
        async with engines(settings) as urls:
            database, redis = await asyncio.gather(
                _bounded("database", look_at_database(urls.database, settings)),
                _bounded("redis", look_at_redis(urls.redis, settings)),
            )
            return [*database, *redis, *await _bounded("catalogue", _catalog(urls.database, settings, file))]
    except (EnginesError, OSError) as error:
        return [Found("engines", "embedded", "error", str(error)), *await _offered(file or Declared(), settings)]


async def _bounded(area: str, looking: Awaitable[list[Found]]) -> list[Found]:
    """What was found; where the looking itself fails, that."""
    try:
        async with asyncio.timeout(_AREA_S):
            return await looking
    except _AWAY as error:
        return [Found(area, "reachable", "error", f"could not be looked at: {error or type(error).__name__}")]


async def _catalog(url: str, settings: Settings, file: Declared | None) -> list[Found]:
    """What is in force beside what the file says; before the first start, what that would bring."""
    running = await _running(url)
    if running == Declared():
        return await _offered(file or running, settings)
    found = await _offered(running, settings)
    return found if file is None or file == Declared() else [*found, *await _compared(url, file)]


async def _running(url: str) -> Declared:
    """What is in force; nothing where the tables are not there, or the database is away, which was told already."""
    try:
        if not await schema_is_current(url):
            return Declared()
    except _AWAY:
        return Declared()
    async with _engine(url) as engine:
        return await whole_catalog(engine)


async def _compared(url: str, file: Declared) -> list[Found]:
    async with _engine(url) as engine:
        apart = await differences(engine, file)
    return [_difference(each) for each in apart] or [Found("file", "catalogue", "ok", "says what is in force")]


def _difference(found: Difference) -> Found:
    """What the API made beside the file is no fault; what the file says and is not in force may be one."""
    return Found("file", found.noun, "note" if found.where == "database" else "warning", found.line())


async def _offered(catalog: Declared, settings: Settings) -> list[Found]:
    catalog = catalog if catalog.tiers else replace(catalog, tiers=shipped_tiers())
    found = list(look_at_catalog(catalog, settings.default_tier))
    return [*found, *await look_at_upstreams(catalog.upstreams)]


@asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(url, size=1, name="farebox doctor")
    try:
        yield engine
    finally:
        await engine.dispose()

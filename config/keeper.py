"""Keeps the catalogue in force: one snapshot in memory, replaced when the database changes or a price falls due."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.ext.asyncio import AsyncEngine

from config.catalog import Catalog
from config.catalog_sql import CatalogError, read

_TABLES = frozenset(("upstreams", "models", "tiers", "tasks", "prices", "groups", "openwebui_models"))
_RETRY_S = 1.0
# A wait longer than this is taken in pieces: the clocks of two machines drift apart.
_WAIT_MAX_S = 3600.0

_log = logging.getLogger("farebox.config")


class CatalogKeeper:
    """A ``watch.Listener`` that has the running catalogue. A reload that fails leaves the last one in force."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._stale = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._wait_s: float = _WAIT_MAX_S
        self.current = Catalog()

    async def start(self) -> None:
        """Load, then keep loading. Raises CatalogError where the first load fails."""
        await self._reload()
        self._task = asyncio.create_task(self._keep(), name="catalog-keeper")

    async def aclose(self) -> None:
        """Stop; the last snapshot stays readable."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def changed(self, table: str, key: str) -> None:
        if table in _TABLES:
            self._stale.set()

    def everything_changed(self, *, listening: bool) -> None:
        self._stale.set()

    async def _keep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._stale.wait()
            except TimeoutError:
                pass
            await self._try_reload()

    async def _try_reload(self) -> None:
        try:
            await self._reload()
        except CatalogError as error:
            _log.warning("catalogue not loaded", extra={"error": str(error)})
            self._stale.set()
            await asyncio.sleep(_RETRY_S)

    async def _reload(self) -> None:
        # Cleared before reading: a change that comes while we read asks for one more turn.
        self._stale.clear()
        self.current, wait = await read(self._engine)
        self._wait_s = _WAIT_MAX_S if wait is None else min(wait, _WAIT_MAX_S)

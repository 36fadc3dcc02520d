"""Hears what other replicas change: one connection to the database that only listens.

The database sends ``<table>:<id>`` with the commit of a change (see ``migrations/``). A lost connection may have lost
notices with it, so listeners are told to forget everything when it goes and again when it is back. Needs a direct
connection: a pooler in transaction mode has no LISTEN.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import asyncpg
from sqlalchemy import make_url

_CHANNEL = "farebox"
_CONNECT_S = 5.0
_PING_EVERY_S = 1.0
_PING_TIMEOUT_S = 0.9
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0)
_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

_log = logging.getLogger("farebox.config")


class Listener(Protocol):
    """Somebody who remembers rows of the database. Called on the event loop; must return at once."""

    def changed(self, table: str, key: str) -> None:
        """This row of this table may differ from what is remembered."""

    def everything_changed(self, *, listening: bool) -> None:
        """Anything may differ. Without ``listening`` no notice will come until this is called again."""


class Watcher:
    """The listening connection of one process."""

    def __init__(self, database_url: str, listeners: Sequence[Listener]) -> None:
        self._options = driver_options(database_url)
        self._listeners = tuple(listeners)
        self._task: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()

    async def start(self) -> None:
        """Begin; returns when the first connection listens. Until it can connect it tries on: bound it from outside."""
        self._task = asyncio.create_task(self._run(), name="watcher")
        await self.listening.wait()

    async def aclose(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen()
            except _AWAY as error:
                failures = 0 if self.listening.is_set() else failures + 1
                _log.warning("watcher lost", extra={"error": type(error).__name__, "failures": failures})
            finally:
                self._tell_all(listening=False)
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])

    async def _listen(self) -> None:
        """Listens until the connection fails, which is the only way out."""
        connection = await asyncpg.connect(**self._options, timeout=_CONNECT_S)
        try:
            await connection.add_listener(_CHANNEL, self._heard)
            # First listen, then forget: a change between the two is told, not missed.
            self._tell_all(listening=True)
            while True:
                await asyncio.sleep(_PING_EVERY_S)
                await connection.execute("SELECT 1", timeout=_PING_TIMEOUT_S)
        finally:
            connection.terminate()

    def _tell_all(self, *, listening: bool) -> None:
        if listening:
            self.listening.set()
        elif not self.listening.is_set():
            return
        else:
            self.listening.clear()
        for listener in self._listeners:
            listener.everything_changed(listening=listening)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        table, _, key = str(payload).partition(":")
        for listener in self._listeners:
            listener.changed(table, key)


def driver_options(database_url: str) -> dict[str, Any]:
    """What the address means to the driver itself: this connection belongs to no pool and no dialect."""
    url = make_url(database_url)
    _, options = url.get_dialect()().create_connect_args(url)
    ours = ("async_fallback", "async_creator_fn", "prepared_statement_cache_size", "prepared_statement_name_func")
    return {name: value for name, value in options.items() if name not in ours}

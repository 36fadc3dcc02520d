"""A wire between the bank and its database that a test can cut, and a bank whose answers can get lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import make_url

from ledger.hold import Settlement
from ledger.store import BankUnavailable, HoldAsk, HoldReply, Unposted
from ledger.store_sql import PostgresBank


class Wire:
    """A TCP relay to the database on this machine. ``cut`` drops what runs and refuses what comes, until ``mend``."""

    def __init__(self, database_url: str) -> None:
        self._url = make_url(database_url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        through = self._url.set(host="127.0.0.1", port=self._port, query={})
        return through.render_as_string(hide_password=False)

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._open()
        tasks = {asyncio.create_task(_pour(reader, back)), asyncio.create_task(_pour(there, writer))}
        self._tasks |= tasks
        await asyncio.wait(tasks)
        self._tasks -= tasks

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = self._url.query.get("host", self._url.host)
        assert isinstance(host, str)
        port = self._url.port or 5432
        if host.startswith("/"):
            return await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


class Forgetful(PostgresBank):
    """The bank, whose answers get lost after the commit as long as ``lost`` is set: nobody knows what was done."""

    lost = False

    async def open_holds(self, asks: Sequence[HoldAsk]) -> list[HoldReply]:
        replies = await super().open_holds(asks)
        if self.lost:
            raise BankUnavailable("the answer was lost")
        return replies

    async def close(self, events: Sequence[Settlement]) -> Unposted:
        unposted = await super().close(events)
        if self.lost:
            raise BankUnavailable("the answer was lost")
        return unposted

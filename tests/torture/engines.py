"""A Postgres that can be stopped, in the ways in which servers stop, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from farebox.engines import Engines


class Postgres:
    """As durable as in production: what it committed is there again after a crash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines = Engines.start(folder, postgres=True, redis=False)

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path) -> Iterator[Postgres]:
        server = cls(folder)
        try:
            yield server
        finally:
            server._engines.stop()

    @property
    def url(self) -> str:
        return self._engines.database_url

    async def crash(self) -> None:
        """SIGQUIT: every backend ends at once, nothing is tidied up; the next start recovers from the journal."""
        number = int((self._folder / "postgres" / "postmaster.pid").read_text().partition("\n")[0])
        os.kill(number, signal.SIGQUIT)
        while Path(f"/proc/{number}").exists():
            await asyncio.sleep(0.02)

    async def start(self) -> None:
        """Return when it takes connections again."""
        again = await asyncio.to_thread(Engines.start, self._folder, postgres=True, redis=False)
        before, self._engines = self._engines, again
        await asyncio.to_thread(before.stop)

"""The clock of the syncs: every so often, and soon after somebody says that something changed there.

Every replica has one. Which of them does a sync, a lock in the database decides; a clock that strikes a moment later
leaves it at that. A nudge waits for more of its kind, so that a list being edited is read once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from openwebui.report import Report

SOON_S = 3.0
"""Between a nudge and its sync."""

_REST_S = 20.0
_FOREVER_S = 86_400.0

_log = logging.getLogger("farebox.openwebui")


class Syncer:
    """``sync`` is run every ``every_s`` seconds (0: never by itself) and after nudges, one at a time, ``rest_s`` apart
    at least. When a period ends it is left out where ``lately`` says that it was done."""

    def __init__(
        self,
        sync: Callable[[], Awaitable[Report]],
        *,
        every_s: float,
        lately: Callable[[], Awaitable[bool]] | None = None,
        soon_s: float = SOON_S,
        rest_s: float = _REST_S,
    ) -> None:
        self._sync = sync
        self._lately = lately
        self._every_s = every_s
        self._soon_s = soon_s
        self._rest_s = rest_s
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._keep_syncing(), name="openwebui-sync")

    async def aclose(self) -> None:
        """Stop. A sync that runs is broken off between two deeds; the next one finishes it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def nudge(self) -> None:
        """Something may have changed: sync soon. Costs nothing however often it is said."""
        self._nudged.set()

    async def _keep_syncing(self) -> None:
        while True:
            nudged = await self._due()
            self._nudged.clear()
            try:
                if nudged or self._lately is None or not await self._lately():
                    self._told(await self._sync())
            except Exception as error:
                # A defect in a sync must not end the syncs.
                _log.error("sync broke", extra={"error": repr(error)[:500]})
            await asyncio.sleep(self._rest_s)

    def _told(self, report: Report) -> None:
        tell = _log.warning if report.outcome in ("failed", "refused") else _log.info
        tell("synced", extra={"outcome": report.outcome, "what": report.sentence})
        if report.outcome == "busy":
            # The one that runs may have read before what we were told of changed.
            self.nudge()

    async def _due(self) -> bool:
        """Wait until the next sync is due, which a nudge brings about (True) or the end of the period. Replicas do not
        begin in the same moment."""
        wait_s = self._every_s * random.uniform(0.9, 1.1) if self._every_s else _FOREVER_S
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._nudged.wait()
                await asyncio.sleep(self._soon_s)
                return True
            except TimeoutError:
                if self._every_s:
                    return False

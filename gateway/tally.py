"""Refusals counted by hour, code and tier: in memory as they happen, added to the database now and then.

A refused call leaves nothing else in the database, so this is what statistics know of them. What was counted since the
last round is lost with a killed process, and counted twice where a commit's answer was: it is a tally, no ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

_log = logging.getLogger("farebox.gateway")
_EVERY_S = 15.0
_NAMES_MAX = 10_000  # hours times codes times tiers, while the database is away
_AWAY = (SQLAlchemyError, OSError, TimeoutError)

# In the order of the key: two replicas that add to the same hours must not wait for each other.
_ADD = text("""
    INSERT INTO refusals_by_hour (hour, code, tier, refusals)
    SELECT * FROM unnest(CAST(:hours AS timestamptz[]), CAST(:codes AS text[]), CAST(:tiers AS text[]),
                         CAST(:counts AS bigint[])) AS counted (hour, code, tier, refusals)
    ORDER BY hour, code, tier
    ON CONFLICT (hour, code, tier) DO UPDATE SET refusals = refusals_by_hour.refusals + excluded.refusals
""")

_Name = tuple[datetime, str, str]


class Tally:
    """One for each process. ``count`` is for the event loop and waits for nothing."""

    def __init__(self, engine: AsyncEngine, *, every_s: float = _EVERY_S) -> None:
        self._engine = engine
        self._every_s = every_s
        self._counted: Counter[_Name] = Counter()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush_often(), name="tally")

    async def stop(self) -> None:
        """Add what is left; what cannot be added now is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()

    def count(self, code: str, tier: str) -> None:
        """One more refusal with this code of somebody of this tier."""
        name = (datetime.now(UTC).replace(minute=0, second=0, microsecond=0), code, tier)
        if name in self._counted or len(self._counted) < _NAMES_MAX:
            self._counted[name] += 1

    async def flush(self) -> None:
        """Add what was counted to the database; what cannot be added is kept for the next time."""
        counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            await self._add(counted)
        except _AWAY as away:
            _log.warning("refusals not counted yet", extra={"names": len(counted), "reason": type(away).__name__})
            self._counted += counted

    async def _add(self, counted: Counter[_Name]) -> None:
        hours, codes, tiers = zip(*counted, strict=True)
        values = {"hours": list(hours), "codes": list(codes), "tiers": list(tiers), "counts": list(counted.values())}
        async with self._engine.begin() as connection:
            await connection.execute(_ADD, values)

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.flush()

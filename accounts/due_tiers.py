"""The job that writes down tier changes planned for an instant, each minute, in every replica.

A planned change is in force from its instant on without this (`standing.py`). What the job adds is that lists and
searches find the user under its tier, and that the bank looks for the new tier's allowance.
"""

from __future__ import annotations

import asyncio
import logging
import random

from accounts.store import AccountsUnavailable
from accounts.store_sql import Accounts

_EVERY_S = 60.0

_log = logging.getLogger("farebox.accounts")


class DueTiers:
    """One for each process. Replicas that do it together share the work."""

    def __init__(self, accounts: Accounts, *, every_s: float = _EVERY_S) -> None:
        self._accounts = accounts
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, with what fell due while nobody ran."""
        self._task = asyncio.create_task(self._keep_settling(), name="due-tiers")

    async def aclose(self) -> None:
        """Stop; what is due stays due."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settle(self) -> int:
        """Write down all that is due; how many changes."""
        settled = 0
        while some := await self._accounts.settle_due_tiers():
            settled += some
        return settled

    async def _keep_settling(self) -> None:
        while True:
            try:
                await self.settle()
            except AccountsUnavailable as error:
                _log.warning("due tiers not settled", extra={"error": str(error)})
            # Not all replicas in the same moment.
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))

"""The bank's own clockwork: reaps holds whose process fell silent, frees what is past its horizon, makes months ahead,
looks for rows outside them, moves on what came into merged wallets, forgets what nobody needs any more.

Every replica runs it; the rows themselves are locked, so two at once do no harm. One failed round is reported and the
next one tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from ledger.store import BankUnavailable

_log = logging.getLogger("farebox.ledger")
_ROUND_S = 2.0
_MONTHS_EVERY = 30  # rounds: about a minute
_FORGET_EVERY = 1800
_DRIFT_EVERY = 15
_FOLLOW_EVERY = 5
# After a time without the bank every hold looks silent: its process gets this many rounds to be heard first.
_GRACE_ROUNDS = 2


class Sweepable(Protocol):
    """The part of the bank that is swept."""

    async def reap(self) -> int: ...
    async def release(self) -> int: ...
    async def sign_in(self) -> int: ...
    async def make_months(self, ahead: int = 2) -> int: ...
    async def drift(self) -> int: ...
    async def strays(self) -> int: ...
    async def forget(self) -> int: ...
    async def follow_merges(self) -> int: ...


class Sweeper:
    """``live_replicas`` is how many processes signed in lately, as of the last round (at least this one); ``drift`` is
    how far wallets and grants are apart, in nano-USD: anything but 0 calls for ``farebox verify``; ``strays`` how many
    rows stand outside their months: anything but 0 calls for ``farebox partitions home``."""

    def __init__(self, bank: Sweepable, *, round_s: float = _ROUND_S) -> None:
        self._bank = bank
        self._round_s = round_s
        self._task: asyncio.Task[None] | None = None
        self.live_replicas = 1
        self.reaped = 0
        self.drift = 0
        self.strays = 0
        self._grace = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        turn = 0
        while True:
            if turn % _MONTHS_EVERY == 0:
                await self._safely(self._bank.make_months)
            if turn % _DRIFT_EVERY == 0:
                drift = await self._safely(self._bank.drift)
                self.drift = self.drift if drift is None else drift
                self._note_strays(await self._safely(self._bank.strays))
            if turn % _FORGET_EVERY == 0:
                await self._safely(self._bank.forget)
            if turn % _FOLLOW_EVERY == 0:
                await self._safely(self._bank.follow_merges)
            await self.round()
            turn += 1
            await asyncio.sleep(self._round_s)

    async def round(self) -> None:
        """One round: sign in, reap, release."""
        live = await self._safely(self._bank.sign_in)
        self.live_replicas = live or self.live_replicas
        if live is None:
            self._grace = _GRACE_ROUNDS
            return
        if self._grace:
            self._grace -= 1
            return
        self.reaped += await self._safely(self._bank.reap) or 0
        await self._safely(self._bank.release)

    def _note_strays(self, found: int | None) -> None:
        if found is None:
            return
        if found and not self.strays:
            _log.error("rows outside their months", extra={"rows": found, "remedy": "farebox partitions home"})
        self.strays = found

    async def _safely(self, step: Callable[[], Awaitable[int]]) -> int | None:
        try:
            return await step()
        except BankUnavailable as away:
            _log.warning("sweep put off", extra={"step": getattr(step, "__name__", "?"), "reason": str(away)})
        except Exception:
            _log.exception("sweep failed", extra={"step": getattr(step, "__name__", "?")})
        return None

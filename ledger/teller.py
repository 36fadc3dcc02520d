"""The counter of the bank: holds and beats of concurrent calls share a commit.

Wallets are spread over lanes by their id, each lane one batch at a time. A wallet whose row somebody else has locked is
asked again a moment later, without keeping its lane, a connection or anybody else waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from ledger.batch import Batcher, Full
from ledger.hold import CallFacts, Outcome, Settlement
from ledger.store import Bank, BankBusy, BankUnavailable, Beat, BeatReply, HoldAsk, HoldReply, HoldStatus
from ledger.turns import Turns
from ledger.usage import Usage, UsageSource

Q = TypeVar("Q", HoldAsk, Beat)
A = TypeVar("A")

_log = logging.getLogger("farebox.ledger")
_PAUSE_S = 0.002
_PAUSE_MAX_S = 0.05


class Teller:
    """Opens holds and records beats. ``regret`` is told the void of a hold that may have been opened for nobody: its
    caller was cancelled, or the bank did not say. ``patience_s`` is how long a locked wallet is asked again; ``turns``
    knows the wallets that this process's own settlements have locked."""

    def __init__(
        self,
        bank: Bank,
        *,
        regret: Callable[[Settlement], None],
        lanes: int = 2,
        batch: int = 128,
        waiting: int = 10_000,
        patience_s: float = 3.0,
        turns: Turns | None = None,
    ) -> None:
        self._bank = bank
        self._turns = turns or Turns()
        self._regret = regret
        self._patience_s = patience_s
        self._holds = [self._lane(self._open, batch, waiting) for _ in range(lanes)]
        # What the bank will not take in company is asked alone, so that it fails alone.
        self._alone = self._lane(self._open, 1, waiting)
        self._beats = Batcher(self._bank.beat, size=batch * 4, waiting=waiting)

    async def open(self, ask: HoldAsk) -> HoldReply:
        """Set money aside for a call. Raises BankUnavailable; its BankBusy when the wallet stayed locked by others."""
        if self._turns.taken(ask.wallet_id):
            await self._turns.after(ask.wallet_id, self._patience_s)
        reply = await self._asked(ask)
        if reply.status is HoldStatus.BUSY:
            return await _again(self._asked, ask, lambda reply: reply.status is HoldStatus.BUSY, self._patience_s)
        return reply

    async def beat(self, beat: Beat) -> BeatReply:
        """A sign of life, with the others that are due now. Raises BankUnavailable; its BankBusy when the wallet stayed
        locked by others: then the sign of life is recorded and the hold is as it was."""
        if self._turns.taken(beat.wallet_id):
            await self._turns.after(beat.wallet_id, self._patience_s)
        reply = await _ask(self._beats, beat)
        if reply.busy:
            return await _again(
                lambda again: _ask(self._beats, again), beat, lambda reply: reply.busy, self._patience_s
            )
        return reply

    async def _asked(self, ask: HoldAsk) -> HoldReply:
        try:
            return await self._holds[ask.wallet_id.int % len(self._holds)].ask(ask)
        except Full as full:
            raise BankUnavailable(str(full)) from full
        except BankUnavailable as away:
            if not isinstance(away, BankBusy):
                raise
        except Exception as failure:
            _log.warning("batch of holds refused, each is asked alone", extra={"reason": repr(failure)})
        return await _ask(self._alone, ask)

    def _lane(
        self, run: Callable[[Sequence[HoldAsk]], Awaitable[Sequence[HoldReply]]], batch: int, waiting: int
    ) -> Batcher[HoldAsk, HoldReply]:
        return Batcher(run, size=batch, waiting=waiting, unclaimed=self._unclaimed)

    async def _open(self, asks: Sequence[HoldAsk]) -> Sequence[HoldReply]:
        try:
            return await self._bank.open_holds(asks)
        except BankBusy:
            raise
        except BankUnavailable as away:
            # The commit may have happened: whatever was opened is voided as soon as the bank can be reached.
            _log.warning("holds not opened", extra={"calls": len(asks), "reason": str(away)})
            for ask in asks:
                self._regret(void(ask.request_id, ask.wallet_id, ask.facts))
            raise

    def _unclaimed(self, ask: HoldAsk, reply: HoldReply) -> None:
        if reply.status is HoldStatus.OK:
            self._regret(void(ask.request_id, ask.wallet_id, ask.facts))


async def _again(ask: Callable[[Q], Awaitable[A]], request: Q, busy: Callable[[A], bool], patience_s: float) -> A:
    """Ask for a wallet that was found locked again and again, for so long. What was waited in line before counts for
    nothing: whoever comes to the counter late is not sent away at the first lock."""
    clock, pause = asyncio.get_running_loop().time, _PAUSE_S
    deadline = clock() + patience_s
    while clock() <= deadline:
        await asyncio.sleep(pause)
        pause = min(pause * 2, _PAUSE_MAX_S)
        reply = await ask(request)
        if not busy(reply):
            return reply
    raise BankBusy("the wallet is locked by somebody else")


async def _ask(lane: Batcher[Q, A], request: Q) -> A:
    try:
        return await lane.ask(request)
    except Full as full:
        raise BankUnavailable(str(full)) from full


def void(request_id: UUID, wallet_id: UUID, facts: CallFacts) -> Settlement:
    """The word on a call that consumed nothing: its hold is given back, no charge is made."""
    return Settlement(
        request_id=request_id,
        wallet_id=wallet_id,
        usage=Usage(),
        source=UsageSource.COUNTED,
        amount=0,
        price_version=0,
        factor_ppm=0,
        outcome=Outcome.UPSTREAM_ERROR,
        at=datetime.now(UTC),
        facts=facts,
        void=True,
    )

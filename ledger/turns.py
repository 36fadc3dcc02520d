"""Whose turn it is at a wallet, in this process: a hold waits for the batch of settlements that has the wallet.

The bank leaves out a wallet that is locked, and whoever asked for it asks again. While it is this very process that
has it locked, asking is in vain: the end of the batch is waited for instead. Rows are locked by the bank alone; what
is said here only spares questions, and a wallet that another process has locked is asked for again as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID


class Turns:
    """One for each process: the poster has wallets, the teller waits for them."""

    def __init__(self) -> None:
        self._had: dict[UUID, list[asyncio.Future[None]]] = {}  # for each wallet who waits for its batch

    @contextmanager
    def having(self, wallets: Iterable[UUID]) -> Iterator[None]:
        """The wallets of a batch, until the block ends."""
        waiting: list[asyncio.Future[None]] = []
        mine = dict.fromkeys(wallets, waiting)
        self._had.update(mine)
        try:
            yield
        finally:
            for wallet_id in mine:
                if self._had.get(wallet_id) is waiting:
                    del self._had[wallet_id]
            for waiter in waiting:
                _wake(waiter)

    def taken(self, wallet_id: UUID) -> bool:
        """Whether a batch has this wallet just now."""
        return wallet_id in self._had

    async def after(self, wallet_id: UUID, timeout_s: float) -> None:
        """Return when the batch that has this wallet is over, at once where none has; and no later than after
        ``timeout_s``. Only that one batch is waited for: the next one does not come first, too."""
        waiting = self._had.get(wallet_id)
        if waiting is None:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        waiting.append(waiter)
        timer = loop.call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

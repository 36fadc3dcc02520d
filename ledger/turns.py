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
        self._had: dict[UUID, asyncio.Event] = {}

    @contextmanager
    def having(self, wallets: Iterable[UUID]) -> Iterator[None]:
        """The wallets of a batch, until the block ends."""
        over = asyncio.Event()
        mine = dict.fromkeys(wallets, over)
        self._had.update(mine)
        try:
            yield
        finally:
            for wallet_id in mine:
                if self._had.get(wallet_id) is over:
                    del self._had[wallet_id]
            over.set()

    def taken(self, wallet_id: UUID) -> bool:
        """Whether a batch has this wallet just now."""
        return wallet_id in self._had

    async def after(self, wallet_id: UUID, timeout_s: float) -> None:
        """Return when the batch that has this wallet is over, at once where none has; and no later than after
        ``timeout_s``. Only that one batch is waited for: the next one does not come first, too."""
        over = self._had.get(wallet_id)
        if over is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await over.wait()
            except TimeoutError:
                return

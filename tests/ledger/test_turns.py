"""A hold waits for the batch of this process that has its wallet, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

from ledger.hold import Settlement
from ledger.poster import Poster
from ledger.spool import Spool
from ledger.store import HoldAsk, HoldReply, Unposted
from ledger.store_sql import PostgresBank
from ledger.teller import Teller
from ledger.turns import Turns
from tests.ledger.till import Till

LONG_S = 30.0


def waiting(turns: Turns, wallet: UUID, timeout_s: float = LONG_S) -> asyncio.Task[None]:
    return asyncio.create_task(turns.after(wallet, timeout_s))


async def test_a_wallet_nobody_has_is_not_waited_for() -> None:
    turns, wallet = Turns(), uuid4()
    with turns.having([uuid4()]):
        assert not turns.taken(wallet)
        await turns.after(wallet, LONG_S)
    with turns.having([wallet]):
        pass
    await turns.after(wallet, LONG_S)


async def test_everybody_at_a_wallet_goes_on_when_its_batch_is_over_whoever_left_meanwhile() -> None:
    turns, wallet = Turns(), uuid4()
    with turns.having([wallet, uuid4()]):
        first, left, third = (waiting(turns, wallet) for _ in range(3))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        assert turns.taken(wallet) and not first.done() and not third.done()
    await asyncio.gather(first, third)


async def test_the_batch_that_comes_next_is_not_waited_for_too() -> None:
    turns, wallet = Turns(), uuid4()
    with turns.having([wallet]):
        call = waiting(turns, wallet)
        await asyncio.sleep(0)
    with turns.having([wallet]):
        await call


async def test_two_batches_may_have_one_wallet() -> None:
    turns, wallet = Turns(), uuid4()
    with turns.having([wallet]):
        with turns.having([wallet]):
            call = waiting(turns, wallet)
            await asyncio.sleep(0)
        await call
        await turns.after(wallet, LONG_S)


async def test_a_batch_that_does_not_end_is_waited_for_no_longer_than_said() -> None:
    turns, wallet = Turns(), uuid4()
    with turns.having([wallet]):
        await turns.after(wallet, 0.01)


class Slow(PostgresBank):
    """The bank, whose settlements end when its gate opens; ``asked`` are the holds it was asked for."""

    def __init__(self, till: Till) -> None:
        super().__init__(till.engine, owner="replica-1")
        self.gate, self.closing = asyncio.Event(), asyncio.Event()
        self.asked: list[UUID] = []

    async def close(self, events: Sequence[Settlement]) -> Unposted:
        self.closing.set()
        await self.gate.wait()
        return await super().close(events)

    async def open_holds(self, asks: Sequence[HoldAsk]) -> list[HoldReply]:
        self.asked += [ask.wallet_id for ask in asks]
        return await super().open_holds(asks)


async def test_a_hold_is_asked_for_once_the_settlement_of_its_wallet_is_committed(till: Till, data_dir: Path) -> None:
    bank, turns = Slow(till), Turns()
    poster = Poster(bank, Spool(data_dir, "replica-1"), turns=turns)
    teller = Teller(bank, regret=poster.submit, turns=turns)
    settled, other = await till.wallet(100), await till.wallet(100)
    poster.submit(till.event(await till.hold(settled, 10), 10))
    poster.start()
    await bank.closing.wait()
    call = asyncio.create_task(teller.open(till.ask(settled, 90)))
    assert (await teller.open(till.ask(other, 10))).status == "ok"
    assert bank.asked == [other]
    bank.gate.set()
    assert (await call).status == "ok" and bank.asked == [other, settled]
    await poster.stop()
    assert await till.broken() == []

"""What is handed over is posted once, whatever happens to the bank or to this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from ledger.hold import Settlement
from ledger.poster import Poster
from ledger.spool import Spool
from ledger.store import BankUnavailable, HoldAsk, Unposted
from ledger.store_sql import PostgresBank, make_engine
from tests.ledger.proxy import Forgetful, Wire
from tests.ledger.till import Till, locked, until


class Away(PostgresBank):
    """The bank, which posts nothing as long as ``away`` is set, or after so many trips. ``trips`` are the sizes of what
    it was asked, ``wallets`` whose they were."""

    def __init__(self, till: Till) -> None:
        super().__init__(till.engine, owner="replica-1")
        self.away = False
        self.away_from = 1000
        self.trips: list[int] = []
        self.wallets: list[set[UUID]] = []

    async def close(self, events: Sequence[Settlement]) -> Unposted:
        self.trips.append(len(events))
        self.wallets.append({event.wallet_id for event in events})
        if self.away or len(self.trips) > self.away_from:
            raise BankUnavailable("away")
        return await super().close(events)


@pytest.fixture
def bank(till: Till) -> Away:
    return Away(till)


@pytest.fixture
async def poster(bank: Away, data_dir: Path) -> AsyncIterator[Poster]:
    poster = Poster(bank, Spool(data_dir, "replica-1"))
    poster.start()
    yield poster
    await poster.stop()


async def _kept(poster: Poster, count: int) -> None:
    async def on_disk() -> bool:
        return poster.spooled >= count

    await until(on_disk)


async def test_what_is_handed_over_is_posted_in_batches(till: Till, bank: Away, poster: Poster) -> None:
    wallet = await till.wallet(1000)
    asks = [await till.hold(wallet, 1) for _ in range(20)]
    for ask in asks:
        poster.submit(till.event(ask, 1))
    assert poster.waiting == 20 and poster.lag_s >= 0
    assert await poster.flush(20)
    assert (poster.waiting, poster.lag_s, bank.trips) == (0, 0.0, [20])
    assert (await till.balance(wallet)).spendable == 980
    assert await till.broken() == []


async def test_an_event_alone_is_posted_at_once_and_those_behind_it_gather(
    till: Till, bank: Away, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.poster._GATHER_S", 4.0)
    wallet = await till.wallet(1000)
    first, *others = [await till.hold(wallet, 1) for _ in range(6)]

    async def posted() -> bool:
        return poster.waiting == 0

    poster.submit(till.event(first, 1))
    await until(posted)
    for ask in others:
        poster.submit(till.event(ask, 1))
        await asyncio.sleep(0.01)
    assert await poster.flush(20)
    assert bank.trips == [1, 5]


async def test_a_batch_has_a_bound_and_a_full_one_does_not_wait(
    till: Till, bank: Away, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.poster._GATHER_S", 60.0)
    wallet = await till.wallet(100)
    poster = Poster(bank, Spool(data_dir, "replica-1"), batch=4)
    for ask in [await till.hold(wallet, 1) for _ in range(8)]:
        poster.submit(till.event(ask, 1))
    poster.start()
    assert await poster.flush(20)
    assert bank.trips == [4, 4]
    await poster.stop()


async def _many(till: Till, poster: Poster) -> list[HoldAsk]:
    """A call on each of several wallets, with several events of the first two; handed over at once."""
    wallets = [await till.wallet(100) for _ in range(30)]
    asks = [await till.hold(wallet, 1) for wallet in (*wallets, *wallets[:2] * 5)]
    for ask in asks:
        poster.submit(till.event(ask, 1))
    return asks


async def test_a_large_batch_is_posted_in_parts_and_a_wallet_is_in_one_of_them(
    till: Till, bank: Away, data_dir: Path
) -> None:
    poster = Poster(bank, Spool(data_dir, "replica-1"))
    asks = await _many(till, poster)
    poster.start()
    assert await poster.flush(20)
    assert len(bank.wallets) == 2 and not bank.wallets[0] & bank.wallets[1]
    assert sum(bank.trips) == len(asks) == 40
    for ask in asks:
        assert await till.charges(ask) == {"final": 1}
    await poster.stop()


async def test_what_is_left_of_a_batch_when_the_bank_goes_away_is_kept(till: Till, bank: Away, data_dir: Path) -> None:
    poster = Poster(bank, Spool(data_dir, "replica-1"))
    asks = await _many(till, poster)
    bank.away_from = 1
    poster.start()

    async def begun() -> bool:
        return poster.waiting < len(asks)

    await until(begun)
    assert poster.spooled >= poster.waiting == len(asks) - bank.trips[0]
    bank.away_from = 1000
    assert await poster.flush(20)
    assert (poster.spooled, poster.waiting, poster.refused) == (0, 0, 0)
    for ask in asks:
        assert await till.charges(ask) == {"final": 1}
    assert await till.broken() == []
    await poster.stop()


async def test_with_the_bank_away_events_are_on_disk_and_posted_when_it_is_back(
    till: Till, bank: Away, poster: Poster, data_dir: Path
) -> None:
    wallet = await till.wallet(100)
    bank.away = True
    for ask in [await till.hold(wallet, 1) for _ in range(3)]:
        poster.submit(till.event(ask, 1))
        await _kept(poster, 1)
    await _kept(poster, 3)
    assert not await poster.flush(0.01)
    assert poster.spooled == 3
    bank.away = False
    assert await poster.flush(20)
    assert (poster.spooled, poster.waiting) == (0, 0)
    assert [path.stat().st_size for path in data_dir.glob("*.spool")] == [0]
    assert (await till.balance(wallet)).spendable == 97


async def test_what_a_dead_process_left_is_posted_by_the_next(till: Till, bank: Away, data_dir: Path) -> None:
    wallet = await till.wallet(100)
    dead = Poster(bank, Spool(data_dir, "dead"))
    bank.away = True
    dead.start()
    asks = [await till.hold(wallet, 1) for _ in range(3)]
    for ask in asks:
        dead.submit(till.event(ask, 1))
    await dead.stop()
    bank.away = False
    living = Poster(bank, Spool(data_dir, "living"))
    living.start()
    await until(lambda: _spendable(till, wallet, 97))
    await until(lambda: _gone(data_dir, "dead-*"))
    await living.stop()
    assert list(data_dir.iterdir()) == []
    assert await till.broken() == []


async def _spendable(till: Till, wallet: object, amount: int) -> bool:
    return int(await till.value("SELECT spendable FROM wallets WHERE id = $1", wallet)) == amount


async def _gone(folder: Path, pattern: str) -> bool:
    return not list(folder.glob(pattern))


async def test_new_events_do_not_wait_for_what_dead_processes_left(till: Till, bank: Away, data_dir: Path) -> None:
    wallet = await till.wallet(100)
    left = Spool(data_dir, "dead")
    left.append([till.event(ask := await till.hold(wallet, 1), 1)])
    left.close()
    fresh = await till.hold(await till.wallet(100), 1)
    poster = Poster(bank, Spool(data_dir, "living"))
    async with locked(till.engine, wallet):
        poster.start()
        poster.submit(till.event(fresh, 1))
        assert await poster.flush(20)
        assert await till.charges(ask) == {}
    await until(lambda: _spendable(till, wallet, 99))
    await poster.stop()


async def test_an_answer_that_was_lost_posts_nothing_twice(till: Till, data_dir: Path) -> None:
    wallet = await till.wallet(100)
    bank = Forgetful(till.engine, owner="replica-1")
    bank.lost = True
    poster = Poster(bank, Spool(data_dir, "replica-1"))
    poster.start()
    ask = await till.hold(wallet, 60)
    poster.submit(till.event(ask, 25))
    await _kept(poster, 1)
    bank.lost = False
    assert await poster.flush(20)
    await poster.stop()
    assert await till.charges(ask) == {"final": 25} and (await till.balance(wallet)).spendable == 75
    assert await till.broken() == []


async def test_an_event_the_bank_refuses_is_set_apart_and_the_others_are_posted(
    till: Till, poster: Poster, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wallet = await till.wallet(100)
    asks = [await till.hold(wallet, 10) for _ in range(3)]
    spoilt = msgspec.structs.replace(till.event(asks[1], 5), problems=("\0",))
    unknown = till.event(till.ask(wallet, 10), 5)
    for event in (till.event(asks[0], 5), spoilt, unknown, till.event(asks[2], 5)):
        poster.submit(event)
    assert await poster.flush(20)
    assert poster.refused == 2
    assert [await till.charges(ask) for ask in asks] == [{"final": 5}, {}, {"final": 5}]
    kept = (data_dir / "replica-1.refused").read_text()
    assert str(spoilt.request_id) in kept and str(unknown.request_id) in kept
    assert caplog.text.count("settlement refused") == 2


async def test_a_locked_wallet_keeps_only_its_own_events_waiting(till: Till, poster: Poster) -> None:
    stuck, free = await till.wallet(100), await till.wallet(100)
    waiting, quick = await till.hold(stuck, 10), [await till.hold(free, 1) for _ in range(5)]
    async with locked(till.engine, stuck):
        poster.submit(till.event(waiting, 5))
        for ask in quick:
            poster.submit(till.event(ask, 1))
        async with asyncio.timeout(30):
            while poster.waiting > 1:
                await asyncio.sleep(0.005)
        assert (await till.balance(free)).spendable == 95
    assert await poster.flush(20)
    assert await till.charges(waiting) == {"final": 5}


async def test_a_full_disk_keeps_events_in_memory(
    till: Till, bank: Away, poster: Poster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ledger.spool.os.write", full)
    bank.away = True
    wallet = await till.wallet(100)
    ask = await till.hold(wallet, 10)
    poster.submit(till.event(ask, 5))
    async with asyncio.timeout(30):
        while "not spooled" not in caplog.text:
            await asyncio.sleep(0.005)
    bank.away = False
    assert await poster.flush(20)
    assert await till.charges(ask) == {"final": 5}


async def test_stopping_leaves_on_disk_what_is_not_committed(till: Till, bank: Away, data_dir: Path) -> None:
    ask = await till.hold(await till.wallet(100), 10)
    bank.away = True
    poster = Poster(bank, Spool(data_dir, "replica-1"))
    poster.submit(till.event(ask, 5))
    await poster.stop()
    again = Spool(data_dir, "replica-2")
    [(orphan, events)] = list(again.orphans())
    assert [event.request_id for event in events] == [ask.request_id]
    orphan.leave()
    again.close()


async def test_a_database_that_goes_and_comes_back_loses_nothing(till: Till, database_url: str, data_dir: Path) -> None:
    wire = Wire(database_url)
    await wire.mend()
    engine = make_engine(wire.url, size=2)
    poster = Poster(PostgresBank(engine, owner="replica-1"), Spool(data_dir, "replica-1"))
    poster.start()
    wallet = await till.wallet(100)
    asks = [await till.hold(wallet, 10) for _ in range(4)]
    poster.submit(till.event(asks[0], 5))
    assert await poster.flush(20)
    await wire.cut()
    for ask in asks[1:]:
        poster.submit(till.event(ask, 5))
    await _kept(poster, 3)
    await wire.mend()
    assert await poster.flush(20)
    await poster.stop()
    await engine.dispose()
    await wire.cut()
    assert (await till.balance(wallet)).spendable == 80
    assert await till.broken() == []

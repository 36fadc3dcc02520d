"""Each posted charge is counted once, whoever counts it and whatever dies in between."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger import roller
from ledger.hold import CallFacts, Settlement
from ledger.ids import uuid7
from ledger.price import Price
from ledger.roller import Roller, counted, rolling, upsert
from ledger.rollup import TABLES, measures, rolled
from ledger.rollup_check import check
from ledger.store import HoldAsk
from ledger.usage import Usage
from tests.ledger.till import Till, until


async def _queued(till: Till) -> int:
    return int(await till.value("SELECT count(*) FROM charges_to_roll"))


async def _sums(till: Till, table: str) -> dict[str, int]:
    """A table's sums over all its rows."""
    chosen = ", ".join(f"coalesce(sum({each}), 0)::bigint AS {each}" for each in measures(table))
    [row] = await till.sql(f"SELECT {chosen} FROM {table}")
    return dict(row)


async def _broken(till: Till) -> list[str]:
    async with till.engine.connect() as pooled:
        driver = (await pooled.get_raw_connection()).driver_connection
        assert driver is not None
        return (await check(driver))[1]


async def _charge(till: Till, amount: int, **more: Any) -> HoldAsk:
    ask = await till.hold(await till.wallet(1000), amount)
    await till.bank.close([msgspec.structs.replace(till.event(ask, amount), **more)])
    return ask


async def _silent(till: Till, used: int) -> HoldAsk:
    """A call whose process fell silent, charged by its checkpoint."""
    ask = await till.hold(await till.wallet(1000), 100)
    await till.bank.beat([till.beat(ask, used)])
    await till.past(ask, "expires_at")
    await till.bank.reap()
    return ask


async def test_a_posted_charge_is_counted_into_every_table_and_leaves_the_queue(till: Till) -> None:
    ask = await _charge(till, 30)
    assert await _queued(till) == 1
    assert await Roller(till.engine).roll() == 1
    assert await _queued(till) == 0
    for table in TABLES:
        sums = await _sums(till, table)
        assert (sums["calls"], sums["output_tokens"], sums["amount"]) == (1, 30, 30), table
    assert await till.value("SELECT count(*) FROM active_users WHERE user_id = $1", ask.facts.user_id) == 3
    assert [row["users"] for row in await till.sql("SELECT users FROM active_user_counts")] == [1, 1, 1]
    assert await _broken(till) == []


async def test_who_is_active_twice_is_one_active_user(till: Till) -> None:
    first = await _charge(till, 1)
    await Roller(till.engine).roll()
    await _charge(till, 2, facts=msgspec.structs.replace(first.facts, model="other"))
    await Roller(till.engine).roll()
    assert [row["users"] for row in await till.sql("SELECT users FROM active_user_counts")] == [1, 1, 1]
    assert await _broken(till) == []


@pytest.mark.parametrize("between", [True, False], ids=["rolled between", "rolled at once"])
async def test_a_final_word_after_a_provisional_one_counts_the_call_once(till: Till, between: bool) -> None:
    ask = await _silent(till, 20)
    if between:
        await Roller(till.engine).roll()
        assert (await _sums(till, "usage_by_hour"))["amount"] == 20
    await till.bank.close([till.event(ask, 25)])
    assert await _broken(till) == [], "what is queued counts as told"
    await Roller(till.engine).roll()
    for table in TABLES:
        sums = await _sums(till, table)
        assert (sums["calls"], sums["amount"], sums["output_tokens"]) == (1, 25, 25), table
    assert await _broken(till) == []


async def test_a_final_word_rolled_before_its_provisional_one_counts_the_call_once(till: Till) -> None:
    ask = await _silent(till, 20)
    await till.sql("CREATE TABLE later AS SELECT * FROM charges_to_roll")
    await till.sql("DELETE FROM charges_to_roll")
    await till.bank.close([till.event(ask, 25)])
    await Roller(till.engine).roll()
    await till.sql("INSERT INTO charges_to_roll SELECT * FROM later")
    assert await _broken(till) == []
    await Roller(till.engine).roll()
    assert (await _sums(till, "usage_by_day"))["amount"] == 25
    assert await _broken(till) == []


async def test_markup_and_the_house_are_told_apart(till: Till) -> None:
    marked = await till.hold(await till.wallet(1000), 100)
    await till.bank.close([msgspec.structs.replace(till.event(marked, 10), amount=15, factor_ppm=1_500_000)])
    house = till.ask(await till.wallet(), 0, house=True)
    await till.bank.open_holds([house])
    await till.bank.close([till.event(house, 7)])
    dear = await till.hold(await till.wallet(50), 50)
    await till.bank.close([till.event(dear, 80)])
    await Roller(till.engine).roll()
    sums = await _sums(till, "usage_by_month")
    assert (sums["amount"], sums["list_amount"]) == (15 + 7 + 80, 10 + 7 + 80)
    assert (sums["house_amount"], sums["overrun"]) == (7, 30)
    assert await _broken(till) == []


async def test_many_with_a_markup_are_counted_piece_by_piece(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roller, "_PIECE", 2)
    for tokens in range(1, 6):
        await _charge(till, 3 * tokens, usage=Usage(output=2 * tokens), factor_ppm=1_500_000)
    assert await Roller(till.engine).roll() == 5
    sums = await _sums(till, "usage_by_month")
    assert (sums["calls"], sums["amount"], sums["list_amount"]) == (5, 45, 30)
    assert await _broken(till) == []


async def _rows(till: Till) -> dict[str, dict[tuple[object, ...], list[int]]]:
    """What the tables say, by table and key."""
    found: dict[str, dict[tuple[object, ...], list[int]]] = {}
    for table, keys in TABLES.items():
        rows = await till.sql(f"SELECT {', '.join((*keys, *measures(table)))} FROM {table}")
        found[table] = {tuple(row)[: len(keys)]: list(tuple(row)[len(keys) :]) for row in rows}
    return found


async def _charges_of_every_kind(till: Till) -> None:
    """Of one user and of several; marked up, by the house, with a provisional word on another model before it."""
    usage = Usage(input=9, cache_read=4, cache_write=2, cache_write_1h=1, audio_in=3, image_in=5, output=7, audio_out=6)
    facts = CallFacts(uuid7(), "pro", "big", "openai/chat", task="title")
    await _charge(till, 30, usage=usage, facts=facts)
    await _charge(till, 11, usage=Usage(output=1, reasoning=8, images=3), facts=facts)
    await _charge(till, 15, usage=Usage(output=10), factor_ppm=1_500_000, facts=facts)
    house = till.ask(await till.wallet(), 0, house=True)
    await till.bank.open_holds([house])
    await till.bank.close([till.event(house, 7)])
    silent = await _silent(till, 20)
    other = msgspec.structs.replace(silent.facts, model="other")
    await till.bank.close([msgspec.structs.replace(till.event(silent, 25), facts=other)])


async def test_the_database_counts_as_the_rules_say(till: Till) -> None:
    await _charges_of_every_kind(till)
    queued = [tuple(row) for row in await till.sql("SELECT request_id, rev FROM charges_to_roll")]
    ids = [request_id for request_id, _ in queued]
    charges = counted(queued, await till.sql(roller.CHARGES, ids, min(ids), max(ids)))
    said = rolled(charges, {till.price_version: Price(till.price_version, "m", {"output": 1000})})
    assert await Roller(till.engine).roll() == len(queued) == 6
    assert await _rows(till) == {
        table: {key: values[: len(measures(table))] for key, values in sums.items() if any(values)}
        for table, sums in said.sums.items()
    }
    active = await till.sql("SELECT period, starts, user_id FROM active_users")
    assert {tuple(row) for row in active} == said.active


async def test_many_rollers_count_each_charge_once(till: Till) -> None:
    for amount in range(1, 41):
        await _charge(till, amount)
    rollers = [Roller(till.engine, at_once=7) for _ in range(6)]
    while await _queued(till):
        await asyncio.gather(*(each.roll() for each in rollers))
    assert (await _sums(till, "usage_by_hour"))["amount"] == sum(range(1, 41))
    assert await _broken(till) == []


async def test_a_roller_that_dies_before_its_commit_has_counted_nothing(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _charge(till, 30)
    await _charge(till, 15, factor_ppm=1_500_000)

    async def dies(*_: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(roller, "write", dies)
    with pytest.raises(ConnectionResetError):
        await Roller(till.engine).roll()
    monkeypatch.undo()
    assert await _queued(till) == 2 and (await _sums(till, "usage_by_hour"))["calls"] == 0
    await Roller(till.engine).roll()
    assert await _broken(till) == []


async def test_one_round_takes_no_more_than_it_may(till: Till) -> None:
    for _ in range(5):
        await _charge(till, 1)
    assert await Roller(till.engine, at_once=3).roll() == 3
    assert await _queued(till) == 2


async def test_a_usage_nobody_understands_does_not_stop_the_statistics(till: Till) -> None:
    ask = await _charge(till, 30)
    await till.sql("ALTER TABLE charges DISABLE TRIGGER ALL")
    await till.sql('UPDATE charges SET usage = \'{"output": "many"}\' WHERE request_id = $1', ask.request_id)
    await _charge(till, 4)
    assert await Roller(till.engine).roll() == 2
    sums = await _sums(till, "usage_by_hour")
    assert (sums["calls"], sums["amount"], sums["output_tokens"]) == (2, 34, 4)
    assert await _broken(till) == []


async def test_at_work_it_counts_by_itself_and_ends_when_told(till: Till, database_url: str) -> None:
    async with rolling(database_url) as at_work:
        for amount in (1, 2):
            await _charge(till, amount)

        async def rolled() -> bool:
            return await _queued(till) == 0

        await until(rolled)
        assert at_work.lag_s < 60
    await _charge(till, 3)
    await asyncio.sleep(0)
    assert await _queued(till) == 1


async def test_one_that_had_many_to_count_rests_longer_and_one_that_left_some_not_at_all(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Roller(engine, round_s=1.0, at_once=1000)
    rests, counted_by = list[float](), iter((99, 100, 1000, 999))
    sleep = asyncio.sleep

    async def roll() -> int:
        try:
            return next(counted_by)
        except StopIteration:
            await sleep(60)
            raise

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(work, "roll", roll)
    monkeypatch.setattr(asyncio, "sleep", rest)
    work.start()
    while len(rests) < 3:
        await sleep(0)
    await work.stop()
    assert rests == [1.0, 5.0, 5.0]


async def test_a_database_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture, engine: AsyncEngine) -> None:
    work = Roller(engine, round_s=0.01)
    caplog.set_level(logging.WARNING, "farebox.ledger")

    async def away() -> int:
        raise OSError("no such host")

    work.roll = away  # type: ignore[method-assign]
    work.start()

    async def told() -> bool:
        return sum("put off" in record.message for record in caplog.records) > 2

    await until(told)
    await work.stop()


async def test_statistics_that_lag_say_so(till: Till, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "farebox.ledger")
    await _charge(till, 30)
    await till.sql("UPDATE charges_to_roll SET posted_at = now() - interval '3 minutes'")
    work = Roller(till.engine)
    await work.roll()
    assert work.lag_s > 170
    assert [record.message for record in caplog.records] == ["statistics lag behind"]
    await work.roll()
    assert work.lag_s == 0


@pytest.mark.parametrize("table", TABLES)
def test_the_statement_names_every_column_of_its_table_once(table: str) -> None:
    text = upsert(table)
    for column in (*TABLES[table], *measures(table)):
        assert text.count(f" {column} = known.{column} + excluded.{column}") == (column in measures(table))
    assert text.count("::") == len(TABLES[table]) + len(measures(table))


async def test_every_kind_of_settlement_is_counted_by_its_last_word(till: Till) -> None:
    asks = [await _silent(till, used) for used in (0, 5, 20)]
    late: list[Settlement] = [till.event(ask, 7) for ask in asks]
    await till.bank.close([*late[:2], msgspec.structs.replace(late[2], void=True)])
    await Roller(till.engine).roll()
    assert await _broken(till) == []

"""What was used is told by UTC day, and of each call by its last word alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from ledger.reconcile import Used, used
from ledger.usage import Usage
from tests.ledger.till import Till


async def test_usage_is_summed_by_day_model_and_kind(till: Till) -> None:
    wallet = await till.wallet(1000)
    events = [till.event(await till.hold(wallet, 50), amount) for amount in (30, 12)]
    more = msgspec.structs.replace(events[1], usage=Usage(output=12, input=5))
    await till.bank.close([events[0], more])
    day = events[0].at.date()
    told = await used(till.engine, day, max(day, datetime.now(UTC).date()))
    assert {(row.model, row.kind, row.amount) for row in told} == {("m", "output", 42), ("m", "input", 5)}


async def test_of_a_call_with_two_charges_the_last_word_counts(till: Till) -> None:
    ask = await till.hold(await till.wallet(1000), 50)
    await till.bank.beat([till.beat(ask, 20)])
    await till.past(ask, "expires_at")
    await till.bank.reap()
    day = datetime.now(UTC).date()
    tomorrow = day + timedelta(days=1)
    assert [row.amount for row in await used(till.engine, day, tomorrow)] == [20]
    await till.bank.close([till.event(ask, 25)])
    assert [row.amount for row in await used(till.engine, day, tomorrow)] == [25]


async def test_a_call_counts_for_the_utc_day_on_which_it_ended(till: Till) -> None:
    ask = await till.hold(await till.wallet(1000), 50)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    await till.bank.close([msgspec.structs.replace(till.event(ask, 9), at=midnight)])
    day = midnight.date()
    assert await used(till.engine, day - timedelta(days=1), day - timedelta(days=1)) == []
    assert await used(till.engine, day, day) == [Used(day, "m", "", "output", 9)]

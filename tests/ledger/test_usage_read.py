"""What a user used, by hour from the charges and by day and month from the roll-ups, merged identities included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger.ids import uuid7_at
from ledger.roller import Roller
from ledger.spans import GRAINS, Grain, first_of
from ledger.store import HoldAsk
from ledger.usage_read import SPAN_MAX, ids_of, used, used_by_model
from tests.ledger.till import Till

_NOW = datetime.now(UTC).replace(microsecond=0)


async def _call(till: Till, user: UUID, amount: int, at: datetime, **labels: Any) -> HoldAsk:
    """A settled call that was admitted at this instant."""
    ask = till.ask(await till.wallet(10**6), amount)
    facts = msgspec.structs.replace(ask.facts, user_id=user, **labels)
    ask = HoldAsk(uuid7_at(at), ask.wallet_id, amount, amount, ask.price_version, ask.factor_ppm, facts)
    [reply] = await till.bank.open_holds([ask])
    assert reply.status == "ok"
    await till.bank.close([till.event(ask, amount)])
    return ask


@pytest.mark.parametrize("grain", GRAINS)
async def test_what_was_used_is_told_by_the_step_in_which_it_was_admitted(till: Till, grain: Grain) -> None:
    user, other = uuid4(), uuid4()
    start = first_of(grain, _NOW)
    before = start - timedelta(seconds=1)
    for amount, at in ((5, before), (7, start), (11, start)):
        await _call(till, user, amount, at)
    await _call(till, other, 13, start)
    await Roller(till.engine).roll()
    found = await used(till.engine, [user], grain, before, _NOW)
    assert [(each.starts, each.calls, each.amount, each.output_tokens) for each in found] == [
        (first_of(grain, before), 1, 5, 5),
        (start, 2, 18, 18),
    ]
    assert {each.currency for each in found} == {"USD"}


async def test_hours_know_a_call_before_it_is_counted_and_know_it_once(till: Till) -> None:
    user = uuid4()
    ask = till.ask(await till.wallet(1000), 100)
    ask = HoldAsk(
        ask.request_id, ask.wallet_id, 100, 100, ask.price_version, ask.factor_ppm,
        msgspec.structs.replace(ask.facts, user_id=user),
    )  # fmt: skip
    await till.bank.open_holds([ask])
    await till.bank.beat([till.beat(ask, 20)])
    await till.past(ask, "expires_at")
    await till.bank.reap()
    await till.bank.close([till.event(ask, 30)])
    later = datetime.now(UTC) + timedelta(hours=1)
    [hour] = await used(till.engine, [user], "hour", _NOW - timedelta(hours=1), later)
    assert (hour.calls, hour.amount) == (1, 30)


@pytest.mark.parametrize("grain", GRAINS)
async def test_those_merged_into_a_user_count_with_it(till: Till, grain: Grain) -> None:
    user, merged = uuid4(), uuid4()
    await _call(till, user, 5, _NOW)
    await _call(till, merged, 7, _NOW)
    await Roller(till.engine).roll()
    [both] = await used(till.engine, [user, merged], grain, _NOW, _NOW + timedelta(seconds=1))
    assert (both.calls, both.amount) == (2, 12)


async def test_a_users_ids_are_its_own_and_those_merged_into_it(till: Till) -> None:
    user, merged, other = uuid4(), uuid4(), uuid4()
    for each in (user, merged, other):
        wallet = await till.wallet()
        await till.sql(
            "INSERT INTO users (id, wallet_id, realm, subject, tier, merged_into) VALUES ($1, $2, 'r', $3, 't', $4)",
            each, wallet, str(each), user if each == merged else None,
        )  # fmt: skip
    assert set(await ids_of(till.engine, user)) == {user, merged}
    assert await ids_of(till.engine, uuid4()) == []


async def test_models_and_tasks_are_told_apart_the_dearest_first(till: Till) -> None:
    user = uuid4()
    await _call(till, user, 5, _NOW, model="small")
    await _call(till, user, 9, _NOW, model="large", task="title")
    await Roller(till.engine).roll()
    found = await used_by_model(till.engine, [user], _NOW - timedelta(days=3), _NOW + timedelta(seconds=1))
    assert [(each.model, each.task, each.amount) for each in found] == [("large", "title", 9), ("small", "", 5)]
    assert await used_by_model(till.engine, [user], _NOW, _NOW) == []


@pytest.mark.parametrize("grain", GRAINS)
async def test_too_long_a_span_is_refused_and_an_empty_one_is_empty(till: Till, grain: Grain) -> None:
    with pytest.raises(ValueError, match="at most"):
        await used(till.engine, [uuid4()], grain, _NOW - SPAN_MAX[grain] - timedelta(seconds=1), _NOW)
    assert await used(till.engine, [uuid4()], grain, _NOW - SPAN_MAX[grain], _NOW) == []
    assert await used(till.engine, [uuid4()], grain, _NOW, _NOW) == []


async def test_models_of_too_long_a_span_are_refused(till: Till) -> None:
    with pytest.raises(ValueError, match="at most"):
        await used_by_model(till.engine, [uuid4()], _NOW - timedelta(days=401), _NOW)

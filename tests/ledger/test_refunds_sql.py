"""Refunds: back to the grants a call was charged from, overrun first, never more than was charged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from ledger.audit import Actor
from ledger.ids import uuid7
from ledger.store import CallRunning, HoldAsk, RefundDone, RefundTooLarge
from tests.ledger.till import Till

_ANN = Actor("ann@example.org", "admin")


async def _refund(till: Till, ask: HoldAsk, amount: int | None = None, source: str = "s") -> RefundDone:
    return await till.bank.refund(ask.request_id, amount, reason="slow", source=source, by=_ANN)


async def test_a_refund_gives_back_everything_that_is_left(till: Till) -> None:
    wallet = await till.wallet(100)
    ask = await till.charge(wallet, 60)
    first = await _refund(till, ask, 20)
    assert (first.request_id, first.amount, first.refunded_in_all, first.created) == (ask.request_id, 20, 20, True)
    rest = await _refund(till, ask, None, "rest")
    assert (rest.amount, rest.refunded_in_all) == (40, 60)
    assert (await till.balance(wallet)).spendable == 100 and await till.posted("rev:usage") == 0
    assert await till.charges(ask) == {"final": 60}
    assert await till.broken() == []


async def test_a_source_counts_once(till: Till) -> None:
    ask = await till.charge(await till.wallet(100), 60)
    first = await _refund(till, ask, 20)
    await _refund(till, ask, 5, "other")
    again = await _refund(till, ask, 60)
    assert (again.id, again.amount, again.refunded_in_all, again.created) == (first.id, 20, 25, False)
    assert await till.value("SELECT count(*) FROM refunds") == 2


async def test_more_than_was_charged_is_refused_and_says_what_is_left(till: Till) -> None:
    wallet = await till.wallet(100)
    ask = await till.charge(wallet, 60)
    await _refund(till, ask, 20)
    with pytest.raises(RefundTooLarge) as refused:
        await _refund(till, ask, 41, "more")
    assert refused.value.left == 40
    await _refund(till, ask, 40, "all")
    with pytest.raises(RefundTooLarge) as refused:
        await _refund(till, ask, None, "again")
    assert refused.value.left == 0 and (await till.balance(wallet)).spendable == 100


async def test_money_goes_back_to_the_grants_it_came_from_last_burnt_first(till: Till) -> None:
    wallet = await till.wallet(50)
    await till.bank.credit(wallet, 30, "promo", source="gift", funding="exp:promo")
    ask = await till.charge(wallet, 60)
    assert (await till.balance(wallet)).by_kind == {"paid": 20}
    await _refund(till, ask, 40)
    assert (await till.balance(wallet)).by_kind == {"paid": 50, "promo": 10}
    await _refund(till, ask, None, "rest")
    assert (await till.balance(wallet)).by_kind == {"paid": 50, "promo": 30}
    assert await till.broken() == []


async def test_overrun_is_forgiven_before_money_is_given_back(till: Till) -> None:
    wallet = await till.wallet(40)
    ask = await till.charge(wallet, 100, held=40)
    await _refund(till, ask, 25)
    assert (await till.balance(wallet)).spendable == 0 and await till.posted("exp:bad_debt") == 35
    await _refund(till, ask, 45, "more")
    assert (await till.balance(wallet)).spendable == 10 and await till.posted("exp:bad_debt") == 0
    told = await till.sql("SELECT amount, forgiven FROM refunds ORDER BY id")
    assert [tuple(row) for row in told] == [(25, 25), (45, 35)] and await till.broken() == []


async def test_what_goes_back_to_a_grant_that_has_ended_ends(till: Till) -> None:
    wallet, soon = await till.wallet(), datetime.now(UTC) + timedelta(hours=1)
    await till.bank.credit(wallet, 30, "promo", source="gift", funding="exp:promo", expires_at=soon)
    await till.balance(wallet)
    ask = await till.charge(wallet, 30)
    await till.sql("UPDATE grants SET expires_at = clock_timestamp() - interval '1 second'")
    assert (await _refund(till, ask)).amount == 30
    assert (await till.balance(wallet)).spendable == 0 and await till.posted("exp:promo") == 0
    assert await till.broken() == []


async def test_what_the_house_bore_goes_back_to_the_house(till: Till) -> None:
    wallet = await till.wallet(10)
    ask = till.ask(wallet, 0, house=True)
    await till.bank.open_holds([ask])
    await till.bank.close([till.event(ask, 70)])
    await _refund(till, ask, 30)
    assert await till.posted("exp:goodwill") == 40 and (await till.balance(wallet)).spendable == 10
    assert await till.broken() == []


async def test_a_call_that_was_never_charged_or_cost_nothing_has_nothing_to_refund(till: Till) -> None:
    wallet = await till.wallet(100)
    running, voided = await till.hold(wallet, 10), await till.hold(wallet, 10)
    await till.bank.close([msgspec.structs.replace(till.event(voided, 0), void=True)])
    for request_id in (running.request_id, voided.request_id, uuid7(), uuid4()):
        with pytest.raises(LookupError):
            await till.bank.refund(request_id, 1, reason="", source="s")
    free = await till.charge(wallet, 0, held=10)
    with pytest.raises(RefundTooLarge):
        await _refund(till, free)


@pytest.mark.parametrize("amount", [0, -1])
async def test_a_refund_of_nothing_is_refused(till: Till, amount: int) -> None:
    ask = await till.charge(await till.wallet(100), 60)
    with pytest.raises(ValueError):
        await _refund(till, ask, amount)


async def _silent(till: Till, *, used: int) -> HoldAsk:
    ask = await till.hold(await till.wallet(100), 60)
    await till.bank.beat([till.beat(ask, used)])
    await till.past(ask, "expires_at")
    await till.bank.reap()
    return ask


async def _released(till: Till, *, used: int) -> HoldAsk:
    ask = await _silent(till, used=used)
    await till.past(ask, "release_at")
    await till.bank.release()
    return ask


async def test_a_call_whose_last_word_may_still_come_is_not_refunded(till: Till) -> None:
    ask = await _silent(till, used=30)
    with pytest.raises(CallRunning):
        await _refund(till, ask, 10)
    assert await till.broken() == []


async def test_a_recovered_call_is_refunded_once_its_hold_is_free(till: Till) -> None:
    ask = await _released(till, used=30)
    assert (await _refund(till, ask)).amount == 30
    assert (await till.balance(ask.wallet_id)).spendable == 100 and await till.broken() == []


@pytest.mark.parametrize(("late", "left"), [(5, 90), (20, 100), (24, 96), (30, 90), (50, 70)])
async def test_a_late_word_after_a_refund_never_gives_back_more_than_was_charged(
    till: Till, late: int, left: int
) -> None:
    ask = await _released(till, used=30)
    await _refund(till, ask, 20)
    await till.bank.close([till.event(ask, late)])
    heard = {"late": late} if late >= 20 else {}
    assert await till.charges(ask) == {"provisional": 30, **heard}
    assert (await till.balance(ask.wallet_id)).spendable == left
    assert await till.broken() == []


async def test_after_a_late_word_what_it_says_is_what_can_be_refunded(till: Till) -> None:
    ask = await _released(till, used=30)
    await _refund(till, ask, 10)
    await till.bank.close([till.event(ask, 45)])
    assert (await _refund(till, ask, None, "rest")).refunded_in_all == 45
    assert (await till.balance(ask.wallet_id)).spendable == 100 and await till.broken() == []


async def test_a_refund_is_audited(till: Till) -> None:
    ask = await till.charge(await till.wallet(100), 60)
    done = await _refund(till, ask, 20)
    [row] = await till.sql("SELECT *, before::text AS was, after::text AS is FROM audit")
    assert (row["actor"], row["action"]) == ("ann@example.org", "charge.refund")
    assert (row["target_type"], row["target_id"]) == ("charge", str(ask.request_id))
    assert msgspec.json.decode(row["was"]) == {"charged": 60, "refunded": 0}
    told = msgspec.json.decode(row["is"])
    assert (told["refund"], told["refunded"], told["reason"]) == (str(done.id), 20, "slow")


async def test_the_same_refund_from_64_sides_at_once_is_made_once(till: Till) -> None:
    wallet = await till.wallet(100)
    ask = await till.charge(wallet, 60)
    done = await asyncio.gather(
        *(till.replica(f"r{n % 4}").refund(ask.request_id, 10, reason="", source="same") for n in range(64))
    )
    assert sum(each.created for each in done) == 1 and len({each.id for each in done}) == 1
    assert (await till.balance(wallet)).spendable == 50 and await till.broken() == []


async def test_64_different_refunds_give_back_the_charge_and_no_more(till: Till) -> None:
    wallet = await till.wallet(100)
    ask = await till.charge(wallet, 60)
    done = await asyncio.gather(*(_refund(till, ask, 7, f"r{n}") for n in range(64)), return_exceptions=True)
    assert sum(isinstance(each, RefundDone) for each in done) == 8
    assert {each.left for each in done if isinstance(each, RefundTooLarge)} == {4}
    assert (await till.balance(wallet)).spendable == 96 and await till.broken() == []

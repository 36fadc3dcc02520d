"""Charges from outside: once for each ref, held and charged in one transaction, by price or by amount."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger import months
from ledger.audit import Actor
from ledger.detach import detach
from ledger.hold import CallFacts
from ledger.ids import instant_of
from ledger.journal import TOKENS
from ledger.period import Plan
from ledger.price import BY_AMOUNT, BY_TOKENS, TOKEN_PRICE, Price
from ledger.seal import seal, session
from ledger.store import MonthClosed, NotEnough, OutsideOrder
from ledger.usage import Usage
from tests.ledger.old_months import ago, business_in
from tests.ledger.till import Till

_ANN = Actor("ann@example.org", "admin")
_USER = uuid4()


def _facts(*, house: bool = False) -> CallFacts:
    return CallFacts(user_id=_USER, tier="pro", model="m", route="outside", task="video", house=house)


def _by_amount(wallet: UUID, amount: int | None, ref: str = "job-1", **more: Any) -> OutsideOrder:
    told: dict[str, Any] = {
        "facts": _facts(), "usage": Usage(), "price": None, "factor_ppm": 1_000_000, "variant": "",
        "at": datetime.now(UTC), "plan": None, "must_cover": False,
    }  # fmt: skip
    return OutsideOrder(ref=ref, wallet_id=wallet, amount=amount, **told | more)


def _by_price(till: Till, wallet: UUID, tokens: int, **more: Any) -> OutsideOrder:
    price = Price(till.price_version, "m", {"output": 1000})
    return _by_amount(wallet, None, price=price, usage=Usage(output=tokens), **more)


async def test_work_is_charged_by_its_amount(till: Till) -> None:
    wallet = await till.wallet(100)
    done = await till.bank.charge_outside(_by_amount(wallet, 30), _ANN)
    assert (done.amount, done.overrun, done.created) == (30, 0, True)
    [charge] = await till.sql("SELECT * FROM charges")
    assert (charge["request_id"], charge["rev"], charge["amount"]) == (done.request_id, "final", 30)
    assert (charge["price_version"], charge["route"], charge["task"]) == (BY_AMOUNT, "outside", "video")
    balance = await till.balance(wallet)
    assert (balance.spendable, balance.held) == (70, 0)
    assert await till.value("SELECT count(*) FROM charges_to_roll") == 1
    assert await till.broken() == []


async def test_work_is_charged_by_its_price(till: Till) -> None:
    wallet = await till.wallet(100)
    order = _by_price(till, wallet, 20, factor_ppm=1_500_000)
    assert (await till.bank.charge_outside(order, _ANN)).amount == 30
    [charge] = await till.sql("SELECT usage::text AS usage, price_version, factor_ppm FROM charges")
    assert tuple(charge) == ('{"output": 20}', till.price_version, 1_500_000)
    assert await till.broken() == []


async def test_a_ref_counts_once_and_tells_the_first_result(till: Till) -> None:
    wallet, other = await till.wallet(100), await till.wallet(100)
    first = await till.bank.charge_outside(_by_amount(wallet, 30))
    again = await till.bank.charge_outside(_by_amount(other, 99))
    assert (again.request_id, again.amount, again.created) == (first.request_id, 30, False)
    assert (await till.balance(other)).spendable == 100
    assert await till.value("SELECT count(*) FROM holds") == 1


async def test_what_the_wallet_does_not_cover_is_overrun(till: Till) -> None:
    wallet = await till.wallet(100)
    await till.hold(wallet, 80)
    done = await till.bank.charge_outside(_by_amount(wallet, 50))
    assert (done.amount, done.overrun) == (50, 30) and await till.posted("exp:bad_debt") == 30
    balance = await till.balance(wallet)
    assert (balance.spendable, balance.held) == (80, 80) and await till.broken() == []


async def test_what_must_be_covered_is_charged_in_full_or_not_at_all(till: Till) -> None:
    wallet = await till.wallet(100)
    await till.hold(wallet, 80)
    with pytest.raises(NotEnough) as refused:
        await till.bank.charge_outside(_by_amount(wallet, 21, must_cover=True))
    assert refused.value.available == 20
    for table in ("charges", "outside_charges", "audit", "charges_to_roll"):
        assert await till.value(f"SELECT count(*) FROM {table}") == 0
    assert (await till.bank.charge_outside(_by_amount(wallet, 20, must_cover=True))).created
    assert await till.broken() == []


async def test_on_the_house_the_wallet_is_left_alone(till: Till) -> None:
    wallet = await till.wallet(10)
    order = _by_amount(wallet, 50, facts=_facts(house=True), must_cover=True)
    assert (await till.bank.charge_outside(order)).overrun == 0
    assert (await till.balance(wallet)).spendable == 10 and await till.posted("exp:goodwill") == 50
    assert await till.broken() == []


async def test_what_the_wallet_is_due_is_booked_first(till: Till) -> None:
    wallet, plan = await till.wallet(due=True), Plan(100, name="pro")
    await till.bank.charge_outside(_by_amount(wallet, 30, plan=plan, must_cover=True))
    assert (await till.bank.balance(wallet, plan)).by_kind == {"plan": 70}
    assert await till.broken() == []


async def test_an_allowance_that_has_ended_pays_nothing(till: Till) -> None:
    wallet, ends = await till.wallet(), datetime.now(UTC) + timedelta(hours=1)
    await till.bank.credit(wallet, 50, "promo", source="old", funding="exp:promo", expires_at=ends)
    await till.sql("UPDATE grants SET expires_at = clock_timestamp() - interval '1 second'")
    assert (await till.bank.charge_outside(_by_amount(wallet, 30))).overrun == 30
    assert await till.broken() == []


async def test_work_takes_its_place_in_time_by_when_it_was_done(till: Till) -> None:
    wallet, at = await till.wallet(100), datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    done = await till.bank.charge_outside(_by_amount(wallet, 30, at=at))
    assert instant_of(done.request_id) == at
    assert await till.value("SELECT at FROM charges") == at and await till.broken() == []


async def test_work_of_a_month_without_tables_gets_them(till: Till) -> None:
    at = months.begins(ago(9))
    await till.bank.charge_outside(_by_amount(await till.wallet(100), 30, at=at))
    assert await till.value(f"SELECT count(*) FROM {months.table('charges', ago(9))}") == 1
    assert await till.value("SELECT count(*) FROM charges_default") == 0


async def test_nothing_is_charged_into_a_closed_month_and_what_was_is_still_known(till: Till) -> None:
    old = await business_in(till, ago(9))
    order = _by_amount(old.wallet, 30, at=months.begins(old.month))
    known = replace(order, ref=f"{old.tokens}", wallet_id=old.tokens, amount=7)
    await seal(till.engine, old.month, _ANN)
    assert not (await till.bank.charge_outside(known)).created
    with pytest.raises(MonthClosed, match=f"{months.name(old.month)} is sealed"):
        await till.bank.charge_outside(order)
    async with session(till.engine) as connection:
        await detach(connection, old.month, _ANN)
    for at in (old.month, ago(10)):
        with pytest.raises(MonthClosed, match="is sealed"):
            await till.bank.charge_outside(_by_amount(old.wallet, 30, at=months.begins(at)))
    with pytest.raises(MonthClosed, match="in a month that is detached"):
        await till.bank.charge_outside(known)
    assert await till.broken() == []


async def test_tokens_pay_for_tokens(till: Till) -> None:
    wallet = uuid4()
    await till.bank.open_wallet(wallet, TOKENS)
    plan = Plan(1000, name="tokens")
    order = _by_amount(wallet, None, price=TOKEN_PRICE, usage=Usage(input=100, reasoning=20), plan=plan)
    assert (await till.bank.charge_outside(order)).amount == 120
    [charge] = await till.sql("SELECT price_version, currency FROM charges")
    assert tuple(charge) == (BY_TOKENS, TOKENS) and await till.broken() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": None},
        {"price": TOKEN_PRICE},
        {"amount": -1},
        {"at": datetime(2099, 1, 1, tzinfo=UTC)},
    ],
    ids=["neither", "both", "below zero", "in the future"],
)
async def test_an_order_that_makes_no_sense_is_refused(till: Till, wrong: dict[str, Any]) -> None:
    wallet = await till.wallet(100)
    amount = wrong.pop("amount", 5)
    with pytest.raises(ValueError):
        await till.bank.charge_outside(_by_amount(wallet, amount, **wrong))
    assert await till.value("SELECT count(*) FROM outside_charges") == 0


async def test_a_wallet_nobody_has_is_charged_nothing(till: Till) -> None:
    with pytest.raises(LookupError):
        await till.bank.charge_outside(_by_amount(uuid4(), 5))


async def test_work_charged_from_outside_can_be_refunded(till: Till) -> None:
    wallet = await till.wallet(100)
    done = await till.bank.charge_outside(_by_amount(wallet, 30))
    await till.bank.refund(done.request_id, None, reason="", source="s")
    assert (await till.balance(wallet)).spendable == 100 and await till.broken() == []


async def test_a_charge_from_outside_is_audited(till: Till) -> None:
    wallet = await till.wallet(100)
    done = await till.bank.charge_outside(_by_amount(wallet, 30), _ANN)
    [row] = await till.sql("SELECT *, after::text AS is FROM audit")
    assert (row["actor"], row["action"]) == ("ann@example.org", "charge.outside")
    assert row["target_id"] == str(done.request_id)
    told = msgspec.json.decode(row["is"])
    assert (told["ref"], told["amount"], told["available"]) == ("job-1", 30, 70)


async def test_the_same_ref_from_64_sides_at_once_is_charged_once(till: Till) -> None:
    wallets = [await till.wallet(100) for _ in range(4)]
    done = await asyncio.gather(*(till.bank.charge_outside(_by_amount(wallets[n % 4], 30)) for n in range(64)))
    assert sum(each.created for each in done) == 1 and len({each.request_id for each in done}) == 1
    assert sum([(await till.balance(wallet)).spendable for wallet in wallets]) == 370
    assert await till.broken() == []


async def test_64_refs_at_once_are_covered_as_far_as_the_money_goes(till: Till) -> None:
    wallet = await till.wallet(1000)
    orders = [_by_amount(wallet, 30, f"job-{n}", must_cover=True) for n in range(64)]
    done = await asyncio.gather(*(till.bank.charge_outside(order) for order in orders), return_exceptions=True)
    assert sum(isinstance(each, NotEnough) for each in done) == 64 - 33
    assert (await till.balance(wallet)).spendable == 10 and await till.broken() == []

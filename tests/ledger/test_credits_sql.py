"""Credits: a person's orders, each kind, once for each source, never more than is free, audited; and those of jobs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger.audit import Actor
from ledger.journal import TOKENS
from ledger.period import Plan
from ledger.store import CreditKind, CreditOrder, NotEnough
from tests.ledger.till import Till, until

_FAR = datetime(2126, 1, 1, tzinfo=UTC)
_ANN = Actor("ann@example.org", "admin", "10.0.0.1")


def _order(wallet: UUID, kind: CreditKind, amount: int, source: str = "s", **more: Any) -> CreditOrder:
    return CreditOrder(wallet, kind, amount, "because", source, **more)


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("kind", "amount", "money", "account"),
    [
        ("payment", 70, "paid", "cash:manual"),
        ("grant", 70, "promo", "exp:promo"),
        ("refund", 70, "promo", "exp:goodwill"),
        ("adjustment", 70, "promo", "exp:goodwill"),
    ],
)
async def test_what_is_given_is_money_of_its_kind(
    till: Till, kind: CreditKind, amount: int, money: str, account: str
) -> None:
    wallet = await till.wallet(30)
    done = await till.bank.adjust(_order(wallet, kind, amount), _ANN)
    assert (done.amount, done.created, done.spendable, done.held) == (70, True, 100, 0)
    assert (await till.balance(wallet)).by_kind == ({"paid": 100} if money == "paid" else {"paid": 30, money: 70})
    assert await till.posted(account) == 70
    [grant] = [grant for grant in await till.bank.grants(wallet) if grant.id == done.id]
    assert (grant.kind, grant.amount, grant.remaining, grant.funding) == (money, 70, 70, account)
    assert await till.broken() == []


@pytest.mark.parametrize(("kind", "amount"), [("deduct", 70), ("adjustment", -70)])
async def test_what_is_taken_burns_in_order(till: Till, kind: CreditKind, amount: int) -> None:
    wallet = await till.wallet(100)
    await till.bank.adjust(_order(wallet, "grant", 50, "gift"))
    done = await till.bank.adjust(_order(wallet, kind, amount))
    assert (done.amount, done.spendable) == (-70, 80)
    assert (await till.balance(wallet)).by_kind == {"paid": 80}
    assert await till.posted("exp:goodwill") == -70 and await till.broken() == []


async def test_a_source_counts_once_and_tells_the_first_result_whatever_is_asked(till: Till) -> None:
    wallet, other = await till.wallet(100), await till.wallet(100)
    first = await till.bank.adjust(_order(wallet, "grant", 50))
    again = await till.bank.adjust(_order(wallet, "deduct", 9000), _ANN)
    assert (again.id, again.entry_id, again.amount, again.created) == (first.id, first.entry_id, 50, False)
    assert again.spendable == 150
    assert (await till.bank.adjust(_order(other, "grant", 50))).created
    assert await till.value("SELECT count(*) FROM credits") == 2
    assert await till.value("SELECT count(*) FROM audit") == 2


async def test_a_source_may_be_called_like_one_of_the_house(till: Till) -> None:
    """A person who names his credit as the bank names an allowance takes nothing from that allowance."""
    wallet, plan = await till.wallet(due=True), Plan(100, name="pro")
    start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).isoformat()
    await till.bank.adjust(_order(wallet, "grant", 5, f"plan:pro:{start}"))
    await till.bank.adjust(_order(wallet, "payment", 7, "merge:1"))
    assert (await till.bank.balance(wallet, plan)).by_kind == {"promo": 5, "paid": 7, "plan": 100}
    assert await till.broken() == []


async def test_what_is_held_is_never_taken(till: Till) -> None:
    wallet = await till.wallet(100)
    await till.hold(wallet, 60)
    with pytest.raises(NotEnough) as refused:
        await till.bank.adjust(_order(wallet, "deduct", 41))
    assert refused.value.available == 40
    done = await till.bank.adjust(_order(wallet, "deduct", 40, "smaller"))
    assert (done.spendable, done.held) == (60, 60)
    assert await till.value("SELECT count(*) FROM credits") == 1 and await till.broken() == []


async def test_money_that_has_ended_cannot_be_taken(till: Till) -> None:
    wallet = await till.wallet(10)
    await till.bank.credit(wallet, 50, "promo", source="old", funding="exp:promo", expires_at=_soon())
    await till.sql("UPDATE grants SET expires_at = clock_timestamp() - interval '1 second' WHERE source = 'old'")
    with pytest.raises(NotEnough) as refused:
        await till.bank.adjust(_order(wallet, "deduct", 20))
    assert refused.value.available == 10
    assert (await till.bank.adjust(_order(wallet, "deduct", 10))).spendable == 0
    assert await till.posted("exp:promo") == 0 and await till.broken() == []


async def test_money_given_with_an_end_leaves_at_its_end(till: Till) -> None:
    wallet = await till.wallet(10)
    done = await till.bank.adjust(_order(wallet, "grant", 50, expires_at=_soon()))
    assert (await till.balance(wallet)).spendable == 60
    past = "UPDATE {} = clock_timestamp() - interval '1 second' WHERE id = $1"
    await till.sql(past.format("grants SET expires_at"), done.id)
    await till.sql(past.format("wallets SET due_at"), wallet)
    assert (await till.balance(wallet)).spendable == 10
    assert await till.broken() == []


@pytest.mark.parametrize(
    "order",
    [
        _order(uuid4(), "grant", 0),
        _order(uuid4(), "grant", -1),
        _order(uuid4(), "payment", -1),
        _order(uuid4(), "refund", -1),
        _order(uuid4(), "deduct", -1),
        _order(uuid4(), "adjustment", 0),
        _order(uuid4(), "deduct", 5, expires_at=_soon()),
        _order(uuid4(), "adjustment", -5, expires_at=_soon()),
    ],
    ids=lambda order: f"{order.kind} {order.amount} {order.expires_at is not None}",
)
async def test_an_order_that_makes_no_sense_is_refused(till: Till, order: CreditOrder) -> None:
    wallet = await till.wallet(100)
    order = CreditOrder(wallet, order.kind, order.amount, order.reason, order.source, order.expires_at)
    with pytest.raises(ValueError):
        await till.bank.adjust(order)
    assert (await till.balance(wallet)).spendable == 100


async def test_money_that_would_end_in_the_past_is_not_given_but_known_credits_stay_known(till: Till) -> None:
    wallet = await till.wallet(100)
    first = await till.bank.adjust(_order(wallet, "grant", 5, expires_at=_soon()))
    past = datetime.now(UTC) - timedelta(seconds=1)
    again = await till.bank.adjust(_order(wallet, "grant", 5, expires_at=past))
    assert (again.id, again.created) == (first.id, False)
    with pytest.raises(ValueError, match="future"):
        await till.bank.adjust(_order(wallet, "grant", 5, "other", expires_at=past))


async def test_a_wallet_nobody_has_can_be_given_nothing(till: Till) -> None:
    with pytest.raises(LookupError):
        await till.bank.adjust(_order(uuid4(), "grant", 5))


async def test_tokens_are_given_and_taken_but_not_paid_for(till: Till) -> None:
    wallet = uuid4()
    await till.bank.open_wallet(wallet, TOKENS)
    await till.bank.adjust(_order(wallet, "grant", 500))
    done = await till.bank.adjust(_order(wallet, "deduct", 200, "t"))
    assert done.spendable == 300
    with pytest.raises(ValueError, match="not paid for"):
        await till.bank.adjust(_order(wallet, "payment", 1, "p"))
    assert await till.value("SELECT DISTINCT currency FROM postings") == TOKENS
    assert await till.broken() == []


async def test_a_credit_is_audited_with_who_gave_it_and_why(till: Till) -> None:
    wallet = await till.wallet(100)
    ends = datetime(2099, 1, 1, tzinfo=UTC)
    done = await till.bank.adjust(_order(wallet, "grant", 50, expires_at=ends), _ANN)
    [row] = await till.sql("SELECT *, before::text AS was, after::text AS is FROM audit")
    assert (row["actor"], row["role"], row["address"]) == ("ann@example.org", "admin", "10.0.0.1")
    assert (row["action"], row["target_type"], row["target_id"]) == ("credit.grant", "wallet", str(wallet))
    assert msgspec.json.decode(row["was"]) == {"spendable": 100, "held": 0}
    assert msgspec.json.decode(row["is"]) == {
        "spendable": 150, "held": 0, "credit": str(done.id), "amount": 50, "reason": "because", "source": "s",
        "expires_at": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    [credit] = await till.sql("SELECT * FROM credits")
    assert (credit["actor"], credit["reason"], credit["expires_at"]) == ("ann@example.org", "because", ends)


async def test_the_same_order_from_64_sides_at_once_is_done_once(till: Till) -> None:
    wallet = await till.wallet(100)
    order = _order(wallet, "deduct", 60)
    done = await asyncio.gather(*(till.replica(f"r{n % 4}").adjust(order, _ANN) for n in range(64)))
    assert sum(each.created for each in done) == 1 and len({each.id for each in done}) == 1
    assert (await till.balance(wallet)).spendable == 40 and await till.broken() == []


async def test_64_different_deductions_take_what_is_there_and_no_more(till: Till) -> None:
    wallet = await till.wallet(1000)
    await till.hold(wallet, 85)
    orders = [_order(wallet, "deduct", 30, f"d{n}") for n in range(64)]
    done = await asyncio.gather(*(till.bank.adjust(order) for order in orders), return_exceptions=True)
    refused = [each for each in done if isinstance(each, NotEnough)]
    assert len(refused) == 64 - 30 and all(each.available == 15 for each in refused)
    balance = await till.balance(wallet)
    assert (balance.spendable, balance.held) == (100, 85) and await till.broken() == []


async def test_64_credits_of_all_kinds_at_once_add_up(till: Till) -> None:
    wallet = await till.wallet(10_000)
    kinds: list[tuple[CreditKind, int]] = [("payment", 7), ("grant", 5), ("adjustment", -3), ("deduct", 2)]
    orders = [_order(wallet, *kinds[n % 4], f"c{n}") for n in range(64)]
    await asyncio.gather(*(till.bank.adjust(order, _ANN) for order in orders))
    assert (await till.balance(wallet)).spendable == 10_000 + 16 * (7 + 5 - 3 - 2)
    assert await till.value("SELECT max(seq) FROM audit") == 64 and await till.broken() == []


async def test_deductions_against_running_calls_leave_every_hold_backed(till: Till) -> None:
    wallet = await till.wallet(2000)

    async def call(n: int) -> None:
        ask = till.ask(wallet, 20)
        [reply] = await till.replica(f"r{n}").open_holds([ask])
        if reply.status == "ok":
            while (await till.bank.close([till.event(ask, 20)])).busy:
                await asyncio.sleep(0.001)

    async def deduct(n: int) -> bool:
        try:
            return (await till.bank.adjust(_order(wallet, "deduct", 50, f"d{n}"))).created
        except NotEnough:
            return False

    taken = await asyncio.gather(*(deduct(n) for n in range(40)), *(call(n) for n in range(40)))
    charged = await till.value("SELECT coalesce(sum(amount), 0)::bigint FROM charges")
    balance = await till.balance(wallet)
    assert balance.held == 0 and balance.spendable == 2000 - charged - 50 * sum(each is True for each in taken)
    assert await till.value("SELECT coalesce(sum(overrun), 0)::bigint FROM charges") == 0
    assert await till.broken() == []


async def _is(till: Till, wallet: UUID, spendable: int) -> bool:
    return (await till.balance(wallet)).spendable == spendable


class TestCredit:
    async def test_a_source_brings_its_money_once(self, till: Till) -> None:
        wallet = await till.wallet()
        brought = [
            await till.bank.credit(wallet, 70, "paid", source="payment:1", funding="cash:test") for _ in range(2)
        ]
        assert brought == [True, False]
        assert (await till.balance(wallet)).spendable == 70
        assert await till.posted("cash:test") == 70

    async def test_a_source_named_on_many_replicas_at_once_brings_its_money_once(self, till: Till) -> None:
        wallet = await till.wallet()
        brought = await asyncio.gather(
            *(till.bank.credit(wallet, 70, "paid", source="payment:1", funding="cash:test") for _ in range(16))
        )
        assert sorted(brought) == [False] * 15 + [True]
        assert await till.broken() == []

    async def test_money_with_an_end_leaves_at_its_end(self, till: Till) -> None:
        wallet = await till.wallet(30)
        end = datetime.now(UTC) + timedelta(seconds=4)
        await till.bank.credit(wallet, 50, "promo", source="gift", funding="exp:promo", expires_at=end)
        assert (await till.balance(wallet)).spendable == 80
        await until(lambda: _is(till, wallet, 30))
        assert await till.posted("exp:promo") == 0
        assert await till.broken() == []

    async def test_money_with_an_end_far_away_does_not_delay_the_first_allowance(self, till: Till) -> None:
        wallet = await till.wallet(due=True)
        await till.bank.credit(wallet, 50, "promo", source="gift", funding="exp:promo", expires_at=_FAR)
        assert (await till.bank.balance(wallet, Plan(100))).spendable == 150

    async def test_money_whose_end_has_passed_already_leaves_at_once(self, till: Till) -> None:
        wallet, past = await till.wallet(30), datetime.now(UTC) - timedelta(hours=1)
        assert await till.bank.credit(wallet, 5, "promo", source="gift", funding="exp:promo", expires_at=past)
        assert (await till.balance(wallet)).spendable == 30
        assert await till.broken() == []

    async def test_nothing_and_nobody_cannot_be_credited(self, till: Till) -> None:
        wallet = await till.wallet()
        with pytest.raises(ValueError, match="at least one"):
            await till.bank.credit(wallet, 0, "paid", source="s", funding="cash:test")
        with pytest.raises(LookupError):
            await till.bank.credit(uuid4(), 1, "paid", source="s", funding="cash:test")

"""What many used at once: merged identities as one, each call once, and budgets that nobody touched as nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from ledger.ids import uuid7
from ledger.member_read import NOTHING, Used, budget_states, used_by_key, used_in_month
from ledger.roller import Roller
from ledger.store import BudgetAsk, BudgetState, HoldAsk
from tests.ledger.till import Till


def this_month() -> date:
    return datetime.now(UTC).date().replace(day=1)


async def person(till: Till, merged_into: UUID | None = None) -> UUID:
    user = uuid7()
    query = "INSERT INTO users (id, wallet_id, realm, subject, tier, merged_into) VALUES ($1, $2, 'r', $3, 't', $4)"
    await till.sql(query, user, await till.wallet(), str(user), merged_into)
    return user


async def call(till: Till, amount: int, *, end: bool = True, **facts: Any) -> HoldAsk:
    ask = till.ask(await till.wallet(10**6), amount)
    ask = HoldAsk(
        ask.request_id, ask.wallet_id, amount, amount, ask.price_version, ask.factor_ppm,
        msgspec.structs.replace(ask.facts, **facts),
    )  # fmt: skip
    [reply] = await till.bank.open_holds([ask])
    assert reply.status == "ok"
    if end:
        await till.bank.close([till.event(ask, amount)])
    return ask


def test_currencies_are_never_added_up() -> None:
    used = NOTHING.and_also("USD", 1, 5).and_also("TOK", 2, 7).and_also("USD", 1, 1)
    assert used == Used(4, 6, 7)


async def test_each_users_month_has_what_was_used_under_all_its_names(till: Till) -> None:
    one, other, idle = await person(till), await person(till), await person(till)
    earlier_name = await person(till, merged_into=one)
    for user, amount in ((one, 5), (earlier_name, 7), (other, 11), (uuid4(), 13)):
        await call(till, amount, user_id=user)
    await Roller(till.engine).roll()
    assert await used_in_month(till.engine, [one, other, idle], this_month()) == {one: Used(2, 12), other: Used(1, 11)}
    assert await used_in_month(till.engine, [one], date(2020, 1, 1)) == {}


async def test_each_key_has_its_calls_by_their_last_word(till: Till) -> None:
    key, other = uuid4(), uuid4()
    await call(till, 5, key_id=key)
    cut = await call(till, 100, end=False, key_id=key)
    await till.bank.beat([till.beat(cut, 20)])
    await till.past(cut, "expires_at")
    await till.bank.reap()
    assert await used_by_key(till.engine, [key, other]) == {key: Used(2, 25)}
    await till.bank.close([till.event(cut, 60)])
    assert await used_by_key(till.engine, [key]) == {key: Used(2, 65)}


async def test_budgets_are_told_as_the_bank_has_them(till: Till) -> None:
    named, unnamed = uuid4(), uuid4()
    wallet = await till.wallet(1000)
    ask = counted_in(till.ask(wallet, 40), named)
    [reply] = await till.bank.open_holds([ask])
    assert reply.status == "ok"
    assert await budget_states(till.engine, [named, unnamed]) == {named: BudgetState(0, 40)}
    await till.bank.close([till.event(ask, 30)])
    assert (
        await budget_states(till.engine, [named]) == {named: await till.bank.budget(named)} == {named: BudgetState(30)}
    )


def counted_in(ask: HoldAsk, budget: UUID) -> HoldAsk:
    """The same ask, counted in this budget."""
    return HoldAsk(
        ask.request_id, ask.wallet_id, ask.wanted, ask.minimum, ask.price_version, ask.factor_ppm, ask.facts,
        budgets=(BudgetAsk(budget, 100),),
    )  # fmt: skip

"""Business that was done in months long past, all of it ended: what can be sealed and detached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger import ids, months
from ledger.journal import TOKENS
from ledger.period import Plan
from ledger.price import TOKEN_PRICE
from ledger.roller import Roller
from ledger.store import BudgetAsk, CreditOrder, HoldAsk, OutsideOrder
from ledger.usage import Usage
from tests.ledger.till import PPM, Till, facts_of


class Old(NamedTuple):
    """Who did business in a month, and a call of it."""

    month: date
    wallet: UUID
    tokens: UUID
    budget: BudgetAsk
    call: HoldAsk


def ago(count: int) -> date:
    """The month so many months before this one."""
    return months.plus(months.month_of(datetime.now(UTC)), -count)


@contextmanager
def clock_in(month: date) -> Iterator[None]:
    """Ids are made as if it were the middle of this month."""
    with pytest.MonkeyPatch.context() as patch:
        instant = int(datetime(month.year, month.month, 15, 12, tzinfo=UTC).timestamp() * 1e9)
        patch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: instant))
        yield


async def business_in(till: Till, month: date) -> Old:
    """A bit of everything that has ended, in a month that has its partitions."""
    await till.sql("SELECT ensure_month($1)", months.begins(month))
    with clock_in(month):
        old = await _business(till, month)
    roller = Roller(till.engine)
    while await roller.roll():
        pass
    return old


async def _business(till: Till, month: date) -> Old:
    wallet, other, tokens, house = await till.wallet(1000), await till.wallet(70), uuid4(), await till.wallet()
    budget = BudgetAsk(uuid4(), 5000)
    call = await till.hold(wallet, 50, budgets=(budget,))
    voided, recovered, dear = await till.hold(wallet, 10), await till.hold(wallet, 50), await till.hold(other, 60)
    await till.bank.beat([till.beat(recovered, 20)])
    await till.past(recovered, "expires_at")
    await till.bank.reap()
    on_the_house = till.ask(house, 0, house=True)
    await till.bank.open_holds([on_the_house])
    words = [till.event(call, 30), till.event(recovered, 25), till.event(dear, 90), till.event(on_the_house, 7)]
    await till.bank.close([*words, msgspec.structs.replace(till.event(voided, 0), void=True)])
    await till.bank.refund(dear.request_id, 40, reason="", source="r")
    await till.bank.adjust(CreditOrder(wallet, "deduct", 20, "", "deduct"))
    await till.bank.open_wallet(tokens, TOKENS)
    at = datetime(month.year, month.month, 15, tzinfo=UTC)
    await till.bank.charge_outside(
        OutsideOrder(f"{tokens}", tokens, facts_of(), Usage(output=7), TOKEN_PRICE, PPM, "", None, at, Plan(100), True)
    )
    return Old(month, wallet, tokens, budget, call)

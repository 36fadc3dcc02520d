"""A bit of all business a ledger can have, and how somebody else might damage its books."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from ledger.journal import TOKENS
from ledger.period import Plan
from ledger.price import TOKEN_PRICE
from ledger.store import BudgetAsk, CreditOrder, OutsideOrder
from ledger.usage import Usage
from tests.ledger.till import PPM, Till, facts_of

A_CALL = "(SELECT request_id FROM charges WHERE rev = 'final' AND NOT house AND amount > 0 ORDER BY 1 LIMIT 1)"
ITS_ENTRY = f"(SELECT entry_id FROM charges WHERE rev = 'final' AND request_id = {A_CALL})"
_FACTS = ("charges", "journal_entries", "postings", "credits", "refunds", "outside_charges", "audit")


async def business(till: Till) -> None:
    """A bit of everything that is healthy: all the ways a call can end or still run."""
    paying, planned, house = await till.wallet(1000), await till.wallet(due=True), await till.wallet()
    await till.bank.open_holds([till.ask(planned, 10, plan=Plan(100))])
    on_the_house = till.ask(house, 0, house=True)
    await till.bank.open_holds([on_the_house])
    settled, dear, voided, silent, recovered = [await till.hold(paying, 50) for _ in range(5)]
    for ask in (silent, recovered):
        await till.bank.beat([till.beat(ask, 20)])
        await till.past(ask, "expires_at")
    await till.bank.reap()
    void = till.event(voided, 0)
    await till.bank.close([till.event(settled, 30), till.event(dear, 2000), till.event(on_the_house, 7)])
    await till.bank.close([msgspec.structs.replace(void, void=True)])
    await till.bank.close([till.event(recovered, 25)])
    await _orders(till)


async def _orders(till: Till) -> None:
    """And all that people may order, healthy, too."""
    wallet, old, tokens = await till.wallet(1000), await till.wallet(70), uuid4()
    budget = BudgetAsk(uuid4(), 500)
    await till.hold(wallet, 40, budgets=(budget,))
    await till.bank.close([till.event(await till.hold(wallet, 50, budgets=(budget,)), 30)])
    for kind, amount in (("payment", 50), ("grant", 40), ("adjustment", -30), ("deduct", 20)):
        await till.bank.adjust(CreditOrder(wallet, kind, amount, "", kind))  # type: ignore[arg-type]
    dear = await till.charge(old, 90, held=70)
    await till.bank.refund(dear.request_id, 50, reason="", source="r")
    await till.bank.merge(old, wallet)
    facts = facts_of()
    by_amount = OutsideOrder("job", wallet, facts, Usage(), None, 0, "", 25, datetime.now(UTC), None, True)
    await till.bank.charge_outside(by_amount)
    await till.bank.open_wallet(tokens, TOKENS)
    by_tokens = OutsideOrder(
        "tok", tokens, facts, Usage(output=7), TOKEN_PRICE, PPM, "", None, datetime.now(UTC), Plan(100), True
    )
    await till.bank.charge_outside(by_tokens)


async def tamper(till: Till, *statements: str) -> None:
    """Change facts as nobody may, past the triggers that keep them."""
    for table in _FACTS:
        await till.sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    for statement in statements:
        await till.sql(statement)
    for table in _FACTS:
        await till.sql(f"ALTER TABLE {table} ENABLE TRIGGER ALL")


async def found_after(till: Till, damage: str) -> list[str]:
    """What verify finds broken once healthy books were damaged."""
    await business(till)
    assert await till.broken() == []
    await tamper(till, damage)
    return await till.broken()

"""What people gave and took, newest first, page after page, and nothing of anybody else."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from ledger.audit import Actor
from ledger.credit_list import ListedCredit, credits
from ledger.store import CreditOrder
from tests.ledger.till import Till

ANNE = Actor("anne")


async def test_each_credit_is_told_as_it_was_ordered(till: Till) -> None:
    wallet, other = await till.wallet(), await till.wallet()
    ends = datetime(2199, 1, 1, tzinfo=UTC)
    given = await till.bank.adjust(CreditOrder(wallet, "grant", 30, "welcome", "a", ends), ANNE)
    await till.bank.adjust(CreditOrder(wallet, "deduct", 10, "oops", "b"), ANNE)
    await till.bank.adjust(CreditOrder(other, "grant", 5, "", "c"), ANNE)
    taken, first = await credits(till.engine, wallet, before=None, limit=10)
    assert (taken.kind, taken.amount, taken.expires_at) == ("deduct", -10, None)
    assert first == ListedCredit(given.id, first.at, "grant", 30, "welcome", "a", ends, "anne", given.entry_id)


async def test_pages_of_any_size_tell_the_same(till: Till) -> None:
    wallet = await till.wallet()
    for number in range(5):
        await till.bank.adjust(CreditOrder(wallet, "grant", 1 + number, "", str(number)), ANNE)
    seen: list[int] = []
    place: UUID | None = None
    while page := await credits(till.engine, wallet, before=place, limit=2):
        seen, place = seen + [each.amount for each in page], page[-1].id
    assert seen == [5, 4, 3, 2, 1]
    assert await credits(till.engine, uuid4(), before=None, limit=10) == []

"""A wallet's statement: everything that moved it, newest first, page after page, and nothing of anybody else."""

from __future__ import annotations

from uuid import UUID, uuid4

from ledger.statement import StatementLine, entries
from ledger.store import CreditOrder
from tests.ledger.till import Till


async def _all(till: Till, wallet: UUID, page: int) -> list[StatementLine]:
    lines: list[StatementLine] = []
    while more := await entries(till.engine, wallet, before=lines[-1].entry_id if lines else None, limit=page):
        assert len(more) <= page
        lines += more
    return lines


async def test_each_entry_tells_what_it_moved_and_of_which_money(till: Till) -> None:
    wallet, other = await till.wallet(100), await till.wallet(100)
    await till.bank.adjust(CreditOrder(wallet, "grant", 30, "", "g"))
    ask = await till.charge(wallet, 50)
    await till.charge(other, 10)
    await till.bank.refund(ask.request_id, 5, reason="", source="r")
    lines = await entries(till.engine, wallet, before=None, limit=10)
    assert [(line.kind, line.amount, line.by_kind) for line in lines] == [
        ("refund", 5, {"paid": 5}),
        ("charge", -50, {"promo": -30, "paid": -20}),
        ("grant", 30, {"promo": 30}),
        ("grant", 100, {"paid": 100}),
    ]
    assert lines[1].ref == f"charge:{ask.request_id}:final"
    assert sum(line.amount for line in lines) == (await till.balance(wallet)).spendable


async def test_pages_of_any_size_tell_the_same(till: Till) -> None:
    wallet = await till.wallet(100)
    for _ in range(6):
        await till.charge(wallet, 3)
    whole = await _all(till, wallet, 50)
    assert len(whole) == 7 and [await _all(till, wallet, page) for page in (1, 2, 3)] == [whole] * 3
    assert [line.entry_id for line in whole] == sorted((line.entry_id for line in whole), reverse=True)


async def test_a_wallet_nobody_has_has_no_entries(till: Till) -> None:
    assert await entries(till.engine, uuid4(), before=None, limit=10) == []

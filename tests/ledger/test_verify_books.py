"""Verify names what is wrong with entries, wallets, grants and cash."""

from __future__ import annotations

import pytest

from ledger.seal import session
from ledger.verify import verify
from ledger.verify_books import MANY, wallets
from tests.ledger.business import ITS_ENTRY, found_after, tamper
from tests.ledger.till import Till

_STRAY = "'01900000-0000-7000-8000-000000000001'"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("I1", f"DELETE FROM postings WHERE line = 0 AND entry_id = {ITS_ENTRY}"),
        ("I1", f"UPDATE postings SET currency = 'EUR' WHERE line = 0 AND entry_id = {ITS_ENTRY}"),
        ("I1", f"DELETE FROM postings WHERE entry_id = {ITS_ENTRY}"),
        ("I1", f"DELETE FROM journal_entries WHERE id = {ITS_ENTRY}"),
        (
            "I1",
            f"WITH e AS (INSERT INTO journal_entries SELECT {_STRAY}, kind, ref, booked_at FROM journal_entries "
            f"WHERE id = {ITS_ENTRY}) INSERT INTO postings (entry_id, line, account, amount) "
            f"VALUES ({_STRAY}, 0, 'exp:fees', 1), ({_STRAY}, 1, 'rev:fees', -1)",
        ),
        ("I1", "UPDATE postings SET currency = 'TOK' WHERE entry_id = (SELECT entry_id FROM charges LIMIT 1)"),
        ("I2", "UPDATE wallets SET spendable = spendable + 1"),
        ("I2", "UPDATE grants SET remaining = remaining - 1 WHERE remaining > 1"),
        ("I3", "UPDATE wallets SET held = held + 1 WHERE spendable > held"),
        ("I3", "UPDATE holds SET amount = amount + 1 WHERE state = 'open'"),
        ("I3", "UPDATE holds SET amount = amount + 1 WHERE state = 'quarantine'"),
        ("I8", "UPDATE postings SET account = 'exp:promo' WHERE account LIKE 'cash:%'"),
        ("I8", "UPDATE grants SET funding = 'exp:promo' WHERE kind = 'paid'"),
    ],
)  # fmt: skip
async def test_each_kind_of_damage_is_found(till: Till, name: str, damage: str) -> None:
    assert name in await found_after(till, damage)


async def test_a_grant_below_zero_is_found(till: Till) -> None:
    await till.wallet(100)
    await till.sql("ALTER TABLE grants DROP CONSTRAINT grants_check")
    await tamper(till, "UPDATE grants SET remaining = -1")
    [found] = [finding for finding in await verify(till.engine) if finding.name == "I3"]
    assert "below zero" in found.line()


async def test_money_moved_between_two_grants_of_a_wallet_is_found(till: Till) -> None:
    wallet = await till.wallet(100)
    await till.bank.credit(wallet, 50, "paid", source="second", funding="cash:test")
    ask = await till.hold(wallet, 10)
    await till.bank.close([till.event(ask, 10)])
    await till.sql("UPDATE grants SET remaining = CASE amount WHEN 100 THEN 95 ELSE 45 END")
    assert await till.broken() == ["I2"]


async def test_a_ledger_that_is_broken_everywhere_is_told_up_to_a_bound(till: Till) -> None:
    await till.sql("INSERT INTO wallets (id, spendable) SELECT gen_random_uuid(), 1 FROM generate_series(1, 1500)")
    async with session(till.engine) as connection:
        count, broken = await wallets(connection)
    assert (count, len(broken)) == (1500, MANY)

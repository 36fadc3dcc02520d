"""The twin of the bank is the bank, on other tables; that both are alike is held in ``tests/contracts``."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.ids import uuid7
from simulation.bank import Connection, MemoryBank
from simulation.tables import Tables, WalletRow


async def test_the_bank_itself_runs_on_dictionaries() -> None:
    tables, wallet = Tables(lambda: datetime.now(UTC)), WalletRow(uuid7())
    tables.wallets[wallet.id] = wallet
    bank = MemoryBank(tables, owner="me")
    assert await bank.credit(wallet.id, 70, "paid", source="s", funding="cash:test")
    assert not await bank.credit(wallet.id, 70, "paid", source="s", funding="cash:test")
    assert (await bank.balance(wallet.id, None)).by_kind == {"paid": 70}
    await bank.ping()
    assert (await bank.sign_in(), await bank.drift(), await bank.make_months()) == (1, 0, 0)


async def test_a_statement_it_does_not_know_is_never_passed_over() -> None:
    with pytest.raises(LookupError):
        await Connection(Tables(lambda: datetime.now(UTC))).fetch("SELECT 1")

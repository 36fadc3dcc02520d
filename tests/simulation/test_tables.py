"""The twin's tables refuse what the database refuses, and take a failed transaction back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ledger.ids import uuid7
from simulation.tables import BudgetRow, EntryRow, GrantRow, PostingRow, Tables, Violated, WalletRow

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def tables() -> Tables:
    return Tables(lambda: NOW)


def wallet_in(tables: Tables, spendable: int = 10) -> WalletRow:
    row = WalletRow(uuid7(), spendable=spendable)
    tables.add(tables.wallets, row.id, row)
    return row


def grant_of(wallet: WalletRow, source: str = "s") -> GrantRow:
    return GrantRow(uuid7(), wallet.id, "paid", 5, 5, 20, NOW, None, source, "cash:test")


def overdrawn(tables: Tables) -> None:
    tables.change(wallet_in(tables), held=11)


def granted_twice(tables: Tables) -> None:
    wallet = wallet_in(tables)
    tables.add_grant(grant_of(wallet))
    tables.add_grant(grant_of(wallet))


def unbalanced(tables: Tables) -> None:
    entry = EntryRow(uuid7(), "charge", "ref", NOW)
    tables.add_entries([entry], [PostingRow(entry.id, 0, "a", 1, None, None, "USD")])


def twice(tables: Tables) -> None:
    row = BudgetRow(uuid7())
    tables.add(tables.budgets, row.id, row)
    tables.add(tables.budgets, row.id, row)


@pytest.mark.parametrize("break_it", [overdrawn, granted_twice, unbalanced, twice])
def test_a_row_that_breaks_a_rule_is_refused_and_everything_taken_back(
    tables: Tables, break_it: Callable[[Tables], None]
) -> None:
    with pytest.raises(Violated), tables.transaction():
        break_it(tables)
    assert len(tables.violations) == 1
    assert not (tables.wallets or tables.grants or tables.entries or tables.postings or tables.budgets)


def test_a_transaction_within_another_shares_its_fate(tables: Tables) -> None:
    wallet = wallet_in(tables)
    with pytest.raises(LookupError), tables.transaction():
        with tables.transaction():
            tables.change(wallet, held=3)
        raise LookupError
    assert wallet.held == 0

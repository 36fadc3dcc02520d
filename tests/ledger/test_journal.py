"""An entry that does not balance cannot be made."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.ids import uuid7
from ledger.journal import REVENUE_USAGE, Entry, Posting, Unbalanced, transfer, wallet_account


def _entry(*postings: Posting) -> Entry:
    return Entry(uuid7(), "charge", "charge:x", datetime.now(UTC), postings)


def test_a_balanced_entry_is_made() -> None:
    assert len(_entry(Posting("a", 5), Posting("b", -2), Posting("c", -3)).postings) == 3


@pytest.mark.parametrize("amounts", [(), (1,), (5, -4), (2**62, -(2**62) + 1)])
def test_an_entry_that_does_not_balance_cannot_be_made(amounts: tuple[int, ...]) -> None:
    with pytest.raises(Unbalanced):
        _entry(*(Posting("a", amount) for amount in amounts))


def test_currencies_do_not_balance_each_other() -> None:
    with pytest.raises(Unbalanced):
        _entry(Posting("a", 5), Posting("b", -5, currency="EUR"))


@given(st.lists(st.integers(-(10**15), 10**15)))
def test_a_transfer_balances_whatever_its_legs(amounts: list[int]) -> None:
    legs = transfer([Posting("a", amount) for amount in amounts], REVENUE_USAGE)
    assert sum(leg.amount for leg in legs) == 0
    assert all(leg.amount for leg in legs)


def test_a_wallet_has_an_account_for_each_kind_of_money() -> None:
    wallet_id = uuid4()
    assert wallet_account(wallet_id, "plan") == f"wallet:{wallet_id}:plan"

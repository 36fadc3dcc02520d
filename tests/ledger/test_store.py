"""What the house asks of the bank is what the bank in Postgres answers."""

from __future__ import annotations

import inspect

import pytest

from ledger.store import Balance, Bank, BankBusy, BankUnavailable
from ledger.store_sql import PostgresBank

_ASKED = [name for name in vars(Bank) if not name.startswith("_")]


@pytest.mark.parametrize("name", _ASKED)
def test_the_bank_in_postgres_answers_each_request_of_the_protocol(name: str) -> None:
    assert inspect.signature(getattr(PostgresBank, name)) == inspect.signature(getattr(Bank, name))
    assert inspect.iscoroutinefunction(getattr(PostgresBank, name))


def test_a_busy_bank_is_an_unavailable_one_to_who_does_not_care() -> None:
    assert issubclass(BankBusy, BankUnavailable)


def test_what_is_available_is_what_is_not_held() -> None:
    assert Balance(spendable=10, held=4, by_kind={"paid": 10}).available == 6

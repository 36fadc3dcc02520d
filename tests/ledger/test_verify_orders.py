"""Verify names what is wrong with budgets, refunds, credits and charges from outside."""

from __future__ import annotations

import pytest

from tests.ledger.business import found_after
from tests.ledger.till import Till


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("I11", "UPDATE budgets SET spent = spent + 1"),
        ("I11", "UPDATE budgets SET held = held - 1"),
        ("I11", "DELETE FROM budgets"),
        ("I11", "UPDATE holds SET budget_ids = NULL WHERE state = 'settled'"),
        ("I12", "UPDATE refunds SET amount = amount + 1"),
        ("I12", "UPDATE refunds SET forgiven = forgiven + 1"),
        ("I12", "UPDATE refunds SET amount = 91"),
        ("I12", "DELETE FROM refunds"),
        ("I12", "UPDATE refunds SET entry_id = gen_random_uuid()"),
        ("I13", "UPDATE credits SET amount = amount + 1 WHERE kind = 'grant'"),
        ("I13", "UPDATE credits SET wallet_id = (SELECT id FROM wallets WHERE currency = 'TOK') WHERE kind = 'deduct'"),
        ("I13", "UPDATE outside_charges SET request_id = gen_random_uuid() WHERE amount IS NULL"),
    ],
)  # fmt: skip
async def test_each_kind_of_damage_is_found(till: Till, name: str, damage: str) -> None:
    assert name in await found_after(till, damage)

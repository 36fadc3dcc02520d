"""Verify passes on what the bank did, and says on one line what does not hold."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.store import BudgetAsk
from ledger.verify import Finding, drained, verify
from tests.ledger.business import business, found_after
from tests.ledger.till import Till

_NAMES = ["I1", "I2", "I3", "I4", "I5", "I6", "I6b", "I7", "I8", "I9", "I11", "I12", "I13", "I14", "I15"]


async def test_what_the_bank_did_verifies(till: Till) -> None:
    await business(till)
    findings = await verify(till.engine)
    assert [finding.name for finding in findings] == _NAMES
    assert [finding.line() for finding in findings if not finding.holds] == []
    assert all(finding.looked_at for finding in findings if finding.name != "I15")  # no month is sealed


async def test_an_empty_ledger_verifies(till: Till) -> None:
    assert await till.broken() == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("I9", "UPDATE audit SET after = '{}' WHERE seq = 2"),
        ("I9", "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"),
    ],
)  # fmt: skip
async def test_each_kind_of_damage_is_found(till: Till, name: str, damage: str) -> None:
    assert name in await found_after(till, damage)


async def test_a_drained_house_holds_nothing(till: Till, engine: AsyncEngine) -> None:
    wallet = await till.wallet(100)
    assert (await drained(engine)).holds
    budget = BudgetAsk(uuid4(), 100)
    ask = await till.hold(wallet, 10, budgets=(budget,))
    found = await drained(engine)
    assert not found.holds and {str(wallet), str(budget.id)} <= set(found.line().split())
    await till.bank.close([till.event(ask, 10)])
    assert (await drained(engine)).holds


def test_a_finding_says_on_one_line_what_breaks_it_and_not_all_of_it() -> None:
    broken = Finding("I1", "each entry sums to zero", 9, tuple(f"entry {n}" for n in range(9)))
    assert broken.line().startswith("I1   each entry sums to zero (9 looked at): BROKEN entry 0; entry 1;")
    assert "entry 5" not in broken.line() and "\n" not in broken.line()
    assert Finding("I1", "each entry sums to zero", 9, ()).line().endswith(": ok")

"""Verify names rows outside their months, and seals that are not what was sealed."""

from __future__ import annotations

from uuid import UUID

import pytest

from ledger.audit import SYSTEM
from ledger.seal import seal, session
from ledger.verify_months import check
from tests.ledger.business import tamper
from tests.ledger.old_months import ago, business_in, clock_in
from tests.ledger.till import Till


async def _check(till: Till) -> tuple[int, list[str]]:
    async with session(till.engine) as connection, connection.transaction():
        return await check(connection)


async def test_rows_of_a_default_partition_are_counted_up_to_a_bound(till: Till) -> None:
    assert await _check(till) == (0, [])
    with clock_in(ago(4)):
        await till.charge(await till.wallet(100), 30)
    count, broken = await _check(till)
    assert count == 8 and len(broken) == 4
    assert broken[1] == "1 rows of charges in the default partition: `farebox partitions home` moves them"
    await till.sql(
        "INSERT INTO journal_entries SELECT gen_random_uuid(), 'x', n::text, now() FROM generate_series(1, 1000) AS n"
    )
    assert any(line.startswith("1000 rows or more of journal_entries") for line in (await _check(till))[1])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE month_seals SET hash = sha256('x')", "seal of .* is not the one in the audit chain"),
        ("UPDATE month_seals SET sums_hash = sha256('x')", "seal of .* is not the one in the audit chain"),
        ("DELETE FROM audit WHERE action = 'month.seal'", "seal of .* is not the one in the audit chain"),
        ("DELETE FROM month_budgets", "sums of .* are not those that were sealed"),
        (f"UPDATE month_postings SET wallet_id = '{UUID(int=7)}'", "sums of .* are not those that were sealed"),
    ],
)
async def test_a_seal_is_held_against_the_audit_chain_and_its_sums(till: Till, damage: str, said: str) -> None:
    old = await business_in(till, ago(5))
    await seal(till.engine, old.month, SYSTEM)
    assert await _check(till) == (1, [])
    await tamper(till, damage)
    _, broken = await _check(till)
    assert any(_says(said, line) for line in broken), broken


def _says(pattern: str, line: str) -> bool:
    before, _, after = pattern.partition(".*")
    return before in line and after in line

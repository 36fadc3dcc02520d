"""What the database itself refuses, whoever asks: to change facts, entries that do not balance, wallets below zero."""

from __future__ import annotations

from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.ledger.till import Till


class TestFacts:
    async def _charged(self, till: Till) -> None:
        ask = await till.hold(await till.wallet(100), 60)
        await till.bank.close([till.event(ask, 25)])

    @pytest.mark.parametrize("table", ["charges", "journal_entries", "postings"])
    @pytest.mark.parametrize("how", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
    async def test_facts_can_be_neither_changed_nor_deleted(self, till: Till, table: str, how: str) -> None:
        await self._charged(till)
        column = {"charges": "amount = 0", "journal_entries": "kind = 'x'", "postings": "amount = 1"}[table]
        parts = await till.sql(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::regclass", table
        )
        filled = [r["name"] for r in parts if await till.value(f"SELECT EXISTS (SELECT 1 FROM {r['name']})")]
        assert len(parts) >= 4 and len(filled) == 1
        # A row trigger has nothing to refuse in a partition without rows; TRUNCATE is refused on every one.
        for name in [table, *([r["name"] for r in parts] if "TRUNCATE" in how else filled)]:
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
                await till.sql(how.format(name, column))

    @pytest.mark.parametrize("table", ["postings", "postings_default"])
    async def test_postings_that_do_not_balance_are_refused(self, till: Till, table: str) -> None:
        one, other = uuid4(), uuid4()  # not of version 7: they land in the default partition
        row = f"INSERT INTO {table} (entry_id, line, account, amount) VALUES ($1, 0, 'a', 5), ($2, 1, 'b', -5)"
        with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
            await till.sql(row, UUID(int=one.int | 1 << 127), UUID(int=other.int | 1 << 127))

    async def test_a_wallet_below_zero_is_refused(self, till: Till) -> None:
        wallet = await till.wallet(100)
        for column, value in (("held", 101), ("spendable", -1), ("held", -1)):
            with pytest.raises(asyncpg.CheckViolationError):
                await till.sql(f"UPDATE wallets SET {column} = $2 WHERE id = $1", wallet, value)

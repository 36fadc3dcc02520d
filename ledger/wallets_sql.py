"""Wallets and budgets in Postgres: opened, and read as they stand once what is due is booked."""

from __future__ import annotations

from uuid import UUID

import msgspec

from ledger import statements
from ledger.period import Plan
from ledger.renewal import renew
from ledger.store import Balance, BudgetState, GrantState
from ledger.vault import Vault


class Wallets(Vault):
    """The part of the bank that tells what there is."""

    async def open_wallet(self, wallet_id: UUID, currency: str) -> None:
        """See ``store.Bank``."""
        async with self._connection() as connection:
            await connection.execute(statements.OPEN_WALLET, wallet_id, currency)
            found = await connection.fetchval(statements.CURRENCY_OF, wallet_id)
        if found != currency:
            raise ValueError(f"wallet {wallet_id} holds {found}, not {currency}")

    async def balance(self, wallet_id: UUID, plan: Plan | None) -> Balance:
        """See ``store.Bank``. Raises LookupError for an unknown wallet."""
        async with self._connection() as connection:
            row = await connection.fetchrow(statements.BALANCE, wallet_id)
            if row is not None and row["due"]:
                await renew(connection, wallet_id, plan)
                row = await connection.fetchrow(statements.BALANCE, wallet_id)
        if row is None:
            raise LookupError(f"no wallet {wallet_id}")
        by_kind = msgspec.json.decode(row["by_kind"], type=dict[str, int])
        return Balance(row["spendable"], row["held"], by_kind, row["period_ends_at"], row["plan_amount"], row["state"])

    async def grants(self, wallet_id: UUID) -> list[GrantState]:
        """The grants that still hold money, in the order in which they burn; at most 1000. What is due is not booked
        first (``balance`` does that)."""
        async with self._connection() as connection:
            return [GrantState(*row) for row in await connection.fetch(statements.GRANT_STATES, wallet_id)]

    async def budget(self, budget_id: UUID) -> BudgetState:
        """See ``store.Bank``."""
        async with self._connection() as connection:
            row = await connection.fetchrow(statements.BUDGET, budget_id)
        return BudgetState(*row) if row is not None else BudgetState()

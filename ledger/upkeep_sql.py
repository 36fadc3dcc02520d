"""The bank's upkeep in Postgres: who lives, whether it can answer, whether it adds up, months made ahead."""

from __future__ import annotations

from ledger import statements
from ledger.store import BankUnavailable
from ledger.vault import Vault


class Upkeep(Vault):
    """The part of the bank that looks after itself."""

    async def sign_in(self) -> int:
        """See ``store.Bank``."""
        async with self._connection() as connection:
            await connection.execute(statements.SIGN_IN, self._owner)
            return int(await connection.fetchval(statements.LIVE, self._ttl))

    async def sign_out(self) -> None:
        """This replica is gone: its share of local limits goes to the others at once."""
        async with self._connection() as connection:
            await connection.execute(statements.SIGN_OUT, self._owner)

    async def drift(self) -> int:
        """How far the wallets' balances and their grants are apart, in nano-USD; 0 unless something is broken."""
        async with self._connection() as connection:
            return int(await connection.fetchval(statements.DRIFT))

    async def ping(self) -> None:
        """Return when the bank can answer and can write. Raises BankUnavailable."""
        async with self._connection() as connection:
            if await connection.fetchval(
                "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
            ):
                raise BankUnavailable("the bank is read-only")

    async def make_months(self, ahead: int = 2) -> int:
        """Make the partitions of this month and the next ``ahead``; how many were missing."""
        async with self._connection() as connection:
            return int(await connection.fetchval("SELECT ensure_partitions($1)", ahead))

"""The bank's upkeep in Postgres: who lives, whether it can answer, whether it adds up, months made ahead, what is
forgotten."""

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
        """Make the partitions of the month before this one, of this one and of the next ``ahead``; how many were made.
        One that somebody's long reading keeps from being made is left for the next time."""
        async with self._connection() as connection:
            return int(await connection.fetchval("SELECT ensure_partitions($1)", ahead))

    async def strays(self) -> int:
        """How many rows stand outside their months, in the default partitions; counted up to 10 000 of each table."""
        async with self._connection() as connection:
            return int(await connection.fetchval(statements.STRAYS))

    async def forget(self) -> int:
        """Forget events of the system older than half a year, 10 000 at a time, and replicas that were killed; how many
        rows."""
        async with self._connection() as connection:
            return int(await connection.fetchval(statements.FORGET))

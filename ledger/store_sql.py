"""The bank in Postgres: the ``store.Bank``, and what administrators order. Each noun has its file.

One rule for all of them: lock, read, decide purely, write; in which order is said in ``drawer``.
"""

from __future__ import annotations

from ledger.credits_sql import Credits
from ledger.engine import make_engine
from ledger.holds_sql import Holds
from ledger.merges_sql import Merges
from ledger.outside_sql import Outside
from ledger.refunds_sql import Refunds
from ledger.upkeep_sql import Upkeep
from ledger.wallets_sql import Wallets

__all__ = ["PostgresBank", "make_engine"]


class PostgresBank(Holds, Wallets, Credits, Refunds, Outside, Merges, Upkeep):
    """The whole bank; what it is made of: see ``vault.Vault``."""

"""Where callers stand, call by call: the tier in force, the wallet that pays.

A planned tier counts from its instant on, whoever has written it down. Its first call writes it down itself, and so has
the bank look for the allowance that comes with it; afterwards the user is remembered as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from accounts.standing import Standing, stand
from accounts.store_sql import Accounts, AccountsUnavailable
from accounts.users import User
from config.catalog import Catalog

_log = logging.getLogger("farebox.gateway")


class Standings:
    """One for each process."""

    def __init__(self, accounts: Accounts, catalog: Callable[[], Catalog], default_tier: str) -> None:
        self._accounts = accounts
        self._catalog = catalog
        self._default_tier = default_tier

    async def of(self, user: User) -> Standing:
        """Raises NoTier."""
        now = datetime.now(UTC)
        if user.next_tier_at is not None and user.next_tier_at <= now:
            await self._settle(user)
        return stand(user, self._catalog(), self._default_tier, now)

    async def _settle(self, user: User) -> None:
        try:
            await self._accounts.settle_due_tiers(user_id=user.id)
        except AccountsUnavailable as away:
            # The tier bites all the same; its allowance comes when somebody can write.
            _log.warning("planned tier not written down", extra={"user": str(user.id), "reason": str(away)})

"""Several changes of one user at once, as an admin sends them: all of them or none, each recorded as what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from accounts.tiers_sql import tier_step
from accounts.user_changes import Step, UserChanges
from accounts.users import User
from ledger.audit import SYSTEM, Actor

_FIELDS = frozenset(("email", "name", "role", "language"))


class TierOrder(NamedTuple):
    """The tier a user shall have (None: what its groups decide), at once or from ``at`` on."""

    tier: str | None
    at: datetime | None = None


class Edits(UserChanges):
    """What changes a user in several ways together."""

    async def edit_user(
        self,
        user_id: UUID,
        fields: Mapping[str, str],
        *,
        status: str | None = None,
        tier: TierOrder | None = None,
        expected: datetime | None = None,
        by: Actor = SYSTEM,
    ) -> User | None:
        """Other ``fields`` (email, name, role, language), status and tier; None where there is no such user.

        Raises StaleWrite where ``updated_at`` is not ``expected``, Conflict for the status of a merged account,
        ValueError for a field that is not an admin's to set.
        """
        if unknown := fields.keys() - _FIELDS:
            raise ValueError(f"this cannot be changed of a user: {', '.join(sorted(unknown))}")
        return await self._take(user_id, list(_steps(fields, status, tier)), by, expected)


def _steps(fields: Mapping[str, str], status: str | None, tier: TierOrder | None) -> Iterator[Step]:
    if fields:
        yield Step("user.change", dict(fields))
    if status is not None:
        yield Step("user.status", {"status": status})
    if tier is not None:
        yield tier_step(*tier)

"""All accounts in the database, as one: users, their tiers, merges, keys, groups, members. Remembers nothing (see
``directory.py``)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from accounts.acting_sql import Acting
from accounts.edits_sql import Edits
from accounts.groups_sql import Groups
from accounts.keys import fingerprint
from accounts.members_sql import Members
from accounts.merge_sql import Merging
from accounts.store import AccountsUnavailable as AccountsUnavailable
from accounts.store import Conflict as Conflict
from accounts.store import StaleWrite as StaleWrite
from accounts.tables import secret_fingerprints
from accounts.tiers_sql import Tiers
from accounts.users_sql import Users

_PEPPER = "key_pepper"


class PepperMismatch(Exception):
    """This process was given another pepper than the one the stored keys were made with."""


class Accounts(Users, Tiers, Edits, Merging, Acting, Groups, Members):
    """What can be done to accounts. Every method may raise AccountsUnavailable; what writes is recorded as done ``by``
    somebody."""

    async def check_pepper(self) -> None:
        """Raises PepperMismatch where other replicas use another pepper; the first replica ever decides which it is."""
        ours = fingerprint(self.pepper)
        async with self._transaction() as connection:
            row = {"name": _PEPPER, "fingerprint": ours}
            await connection.execute(insert(secret_fingerprints).values(row).on_conflict_do_nothing())
            known = select(secret_fingerprints.c.fingerprint).where(secret_fingerprints.c.name == _PEPPER)
            theirs = await connection.scalar(known)
        if theirs != ours:
            raise PepperMismatch(
                "FAREBOX_KEY_PEPPER is not the one this database's keys were made with: no key would be accepted. "
                "Give this process the same pepper as the others (without the setting it is in the data folder)."
            )

"""What is known here of an Open WebUI's people and groups before a sync. Pure."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct


class Account(Struct, frozen=True):
    """A user here, as far as a sync compares it. ``merged_into`` is the account that goes on for it."""

    id: UUID
    realm: str
    subject: str
    email: str
    name: str
    role: str
    status: str
    merged_into: UUID | None = None
    groups: frozenset[UUID] = frozenset()


class Mark(Struct, frozen=True):
    """What the last sync saw of somebody there: role, whether they were there at all, and whether their account was
    suspended because they were not."""

    role: str = ""
    here: bool = True
    suspended: bool = False


class KeptCircle(Struct, frozen=True):
    """The group here that stands for one there. A retired one was retired by an admin, and stays so."""

    group_id: UUID
    name: str
    retired: bool = False


class Kept(Struct, frozen=True):
    """All of it: accounts by id (those of this Open WebUI's realm, and those that go on for them), marks and groups by
    the ids there, and which names of groups are taken by whom."""

    realm: str
    accounts: dict[UUID, Account] = {}
    marks: dict[str, Mark] = {}
    circles: dict[str, KeptCircle] = {}
    names: dict[str, UUID] = {}
    groups_max: int = 32
    """Groups that one account may belong to."""

    def by_subject(self) -> dict[str, Account]:
        """The accounts of the realm by the ids they have there."""
        return {each.subject: each for each in self.accounts.values() if each.realm == self.realm}

    def going_on(self, account: Account) -> Account:
        """The account that goes on for this one; mostly itself."""
        seen = {account.id}
        while account.merged_into is not None and account.merged_into in self.accounts:
            account = self.accounts[account.merged_into]
            if account.id in seen:
                break
            seen.add(account.id)
        return account

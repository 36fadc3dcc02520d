"""Does what a difference says, through the same stores as an admin: each deed is audited, and told to every replica.

The order matters only in that people and groups are there before somebody joins. Done in part, a sync is finished by
the next one: each compares anew.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from accounts.store_sql import Accounts, Conflict
from ledger.audit import Actor
from openwebui.deeds import (
    ChangeAccount,
    Deed,
    Join,
    Leave,
    MakeAccount,
    MakeGroup,
    RenameGroup,
    Restore,
    RetireGroup,
    Suspend,
)
from openwebui.difference import Difference, cleaned
from openwebui.mirror_sql import Mirror

_ORDER: tuple[type[Any], ...] = (
    MakeAccount, ChangeAccount, Restore, MakeGroup, RenameGroup, Leave, Join, RetireGroup, Suspend,
)  # fmt: skip


class Doing:
    """One sync's deeds. ``made`` are the accounts it made, by the ids there; ``failed`` says what could not be done."""

    def __init__(self, accounts: Accounts, mirror: Mirror, by: Actor, groups: dict[str, UUID]) -> None:
        self._accounts = accounts
        self._mirror = mirror
        self._by = by
        self._groups = dict(groups)
        self.made: dict[str, UUID] = {}
        self.failed: list[str] = []

    async def all(self, found: Difference) -> None:
        """Every deed, then the marks. Raises AccountsUnavailable."""
        for deed in sorted(found.deeds, key=lambda each: _ORDER.index(type(each))):
            try:
                await self._do(deed)
            except (Conflict, LookupError, ValueError) as error:
                # Somebody changed it at the same time: the next sync sees how it is then.
                self.failed.append(f"{deed.line}: {error}")
        await self._mirror.write_marks(found.marks)

    async def _do(self, deed: Deed) -> None:
        match deed:
            case MakeAccount():
                await self._make_account(deed)
            case ChangeAccount():
                await self._accounts.change_user(deed.user_id, expected=None, by=self._by, **deed.after)
            case Suspend():
                await self._accounts.set_status(deed.user_id, "suspended", by=self._by)
            case Restore():
                await self._accounts.set_status(deed.user_id, "active", by=self._by)
            case MakeGroup():
                kept = await self._accounts.create_group(name=deed.name, by=self._by)
                await self._mirror.link(deed.circle_id, kept.group.id)
                self._groups[deed.circle_id] = kept.group.id
            case RenameGroup():
                await self._accounts.change_group(deed.group_id, name=deed.name, by=self._by)
            case RetireGroup():
                await self._accounts.retire_group(deed.group_id, by=self._by)
                await self._mirror.unlink(deed.circle_id)
            case Join():
                await self._join(deed)
            case Leave():
                for user_id in deed.user_ids:
                    await self._accounts.remove_member(deed.group_id, user_id, by=self._by)

    async def _make_account(self, deed: MakeAccount) -> None:
        person = deed.person
        made = await self._accounts.create_user(
            name=cleaned(person.name),
            email=cleaned(person.email),
            role="admin" if person.role == "admin" else "user",
            realm=self._mirror.realm,
            subject=person.id,
            by=self._by,
        )
        self.made[person.id] = made.id

    async def _join(self, deed: Join) -> None:
        group_id = self._groups.get(deed.circle_id)
        joining = [*deed.user_ids, *(self.made[each] for each in deed.newcomers if each in self.made)]
        if group_id is not None and joining:
            await self._accounts.add_members(group_id, joining, by=self._by)

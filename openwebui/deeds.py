"""What a sync does, one value for each deed, with the sentence an admin reads. Pure; `doing.py` does them."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from msgspec import Struct

from openwebui.shapes import Person

Why = Literal["deleted", "pending"]


class MakeAccount(Struct, frozen=True, tag=True):
    """Somebody there has no account here."""

    person: Person

    @property
    def line(self) -> str:
        return f"{who(self.person.email, self.person.id)} gets an account"


class ChangeAccount(Struct, frozen=True, tag=True):
    """E-mail, name or role differ."""

    user_id: UUID
    email: str
    before: dict[str, str]
    after: dict[str, str]

    @property
    def line(self) -> str:
        changes = ", ".join(f"{name} {self.before[name]!r} -> {value!r}" for name, value in self.after.items())
        return f"{who(self.email, str(self.user_id))}: {changes}"


class Suspend(Struct, frozen=True, tag=True):
    """Somebody is not a user there any more. Their money and all that was charged stay."""

    user_id: UUID
    email: str
    why: Why

    @property
    def line(self) -> str:
        return f"{who(self.email, str(self.user_id))} is suspended: {self.why} there"


class Restore(Struct, frozen=True, tag=True):
    """Somebody is a user there again, and was suspended by a sync."""

    user_id: UUID
    email: str

    @property
    def line(self) -> str:
        return f"{who(self.email, str(self.user_id))} is active again"


class MakeGroup(Struct, frozen=True, tag=True):
    """A group there has none here. It gives nothing until an admin gives it a tier or credits."""

    circle_id: str
    name: str

    @property
    def line(self) -> str:
        return f"the group {self.name} is made"


class RenameGroup(Struct, frozen=True, tag=True):
    """A group has another name there."""

    group_id: UUID
    before: str
    name: str

    @property
    def line(self) -> str:
        return f"the group {self.before} is called {self.name}"


class RetireGroup(Struct, frozen=True, tag=True):
    """A group is not there any more: what it gave ends for its members."""

    circle_id: str
    group_id: UUID
    name: str
    members: int

    @property
    def line(self) -> str:
        return f"the group {self.name} is retired; it had {counted(self.members, 'member')}"


class Join(Struct, frozen=True, tag=True):
    """People belong to a group there and not here; ``newcomers``, by their ids there, get their accounts in this very
    sync."""

    circle_id: str
    name: str
    user_ids: tuple[UUID, ...]
    newcomers: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        return f"{named(self.emails)} {'joins' if len(self.emails) == 1 else 'join'} the group {self.name}"


class Leave(Struct, frozen=True, tag=True):
    """People belong to a group here and not there any more."""

    group_id: UUID
    name: str
    user_ids: tuple[UUID, ...]
    emails: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        return f"{named(self.emails)} {'leaves' if len(self.emails) == 1 else 'leave'} the group {self.name}"


Deed = MakeAccount | ChangeAccount | Suspend | Restore | MakeGroup | RenameGroup | RetireGroup | Join | Leave

_NAMED_MAX = 5


def who(email: str, otherwise: str) -> str:
    """How a person is named to an admin."""
    return email or otherwise


def counted(number: int, noun: str) -> str:
    """Like ``1 group`` and ``2 groups``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def named(emails: tuple[str, ...]) -> str:
    """Some of them, and how many more there are."""
    more = len(emails) - _NAMED_MAX
    shown = ", ".join(emails[:_NAMED_MAX])
    return f"{shown} and {more} more" if more > 0 else shown

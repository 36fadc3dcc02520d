"""What the database keeps of a group and of a membership. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from accounts.users import User
from policies.group import Group


class KeptGroup(msgspec.Struct, frozen=True):
    """A group with its history: ``version`` is what a writer must have seen; a retired one means nothing to members."""

    group: Group
    version: int
    members: int
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None = None


class Member(msgspec.Struct, frozen=True):
    """A user and since when it belongs to the group."""

    user: User
    added_at: datetime

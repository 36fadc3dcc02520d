"""What is kept of a group is a value: compared by what it says."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from accounts.groups import KeptGroup, Member
from accounts.users import User
from policies.group import Group

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_group_in_force_was_never_retired() -> None:
    group = Group(UUID(int=1), "g", UUID(int=2))
    assert KeptGroup(group, 1, 0, THEN, THEN) == KeptGroup(group, 1, 0, THEN, THEN, None)


def test_a_member_is_a_user_since_an_instant() -> None:
    user = User(UUID(int=1), UUID(int=2), "r", "s", "a@b", "Ann", "user", "free", "active", "en")
    assert Member(user, THEN) == Member(user, THEN) != Member(user, THEN.replace(year=2027))

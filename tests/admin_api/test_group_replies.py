"""How groups and members are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from accounts.groups import KeptGroup, Member
from accounts.users import User
from admin_api.group_replies import GroupReply, MemberReply, MemberUsageReply
from admin_api.user_replies import UsedReply
from ledger.budget import Budget
from ledger.member_read import NOTHING
from ledger.money import NANO
from policies.group import Group
from policies.tier import Allowance

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ADA = User(UUID(int=1), UUID(int=2), "r", "s", "a@b", "Ada", "user", "pro", "active", "en")


def test_a_group_is_shown_in_the_words_it_is_made_with() -> None:
    group = Group(
        UUID(int=3), "g", UUID(int=4), "pro", 5, Allowance(NANO, every="week", anchor=2), True, Budget(2 * NANO)
    )
    shown = GroupReply.of(KeptGroup(group, 7, 2, NOW, NOW)).model_dump(mode="json")
    assert (shown["name"], shown["tier"], shown["priority"], shown["version"], shown["members"]) == (
        "g",
        "pro",
        5,
        7,
        2,
    )
    assert (shown["allowance"]["usd"], shown["allowance"]["every"], shown["allowance"]["anchor"]) == (
        "1.0000",
        "week",
        2,
    )
    assert (shown["member_cap"]["amount"], shown["member_cap"]["every"]) == ("2.0000", None)


def test_a_group_that_gives_nothing_is_shown_so() -> None:
    shown = GroupReply.of(KeptGroup(Group(UUID(int=3), "g", UUID(int=4)), 1, 0, NOW, NOW, NOW)).model_dump(mode="json")
    assert (shown["allowance"], shown["member_cap"], shown["retired_at"]) == (None, None, "2026-11-21T00:00:00Z")


def test_a_member_is_told_by_name() -> None:
    assert MemberReply.of(Member(ADA, NOW)).user_id == ADA.id
    usage = MemberUsageReply.of_member(ADA, UsedReply.of(NOTHING), None)
    assert (usage.name, usage.email, usage.cap, usage.this_month.calls) == ("Ada", "a@b", None, 0)

"""Which budgets bound a caller: the key's own, and a member's share; each in the period that runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ledger.budget import Budget
from policies.caps import caps_of, key_cap, member_cap
from policies.group import Group
from policies.key_limits import KeyLimits
from policies.principal import Principal

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY, USER, GROUP, WALLET = (UUID(int=number) for number in range(1, 5))
MONTHLY = Budget(5 * 10**9, "month")


def principal(**more: Any) -> Principal:
    return Principal(USER, WALLET, "r", "s", "", "Ada", "user", "free", "active", "en", **more)


def group(**more: Any) -> Group:
    return Group(GROUP, "Team", WALLET, **{"shared": True, "member_cap": MONTHLY, **more})


def test_who_has_neither_is_bound_by_none() -> None:
    assert caps_of(principal(), NOW) == ()
    assert caps_of(principal(limits=KeyLimits().owned_by(KEY), group=group(member_cap=None)), NOW) == ()


def test_a_keys_budget_counts_for_the_key_until_its_period_ends() -> None:
    cap = key_cap(KeyLimits(budget=MONTHLY).owned_by(KEY), NOW)
    assert cap is not None
    assert (cap.of, cap.limit, cap.ends_at) == ("key", 5 * 10**9, datetime(2026, 12, 1, tzinfo=UTC))
    same = key_cap(KeyLimits(budget=Budget(10**9, "month")).owned_by(KEY), NOW + timedelta(days=2))
    later = key_cap(KeyLimits(budget=MONTHLY).owned_by(KEY), NOW + timedelta(days=20))
    other = key_cap(KeyLimits(budget=MONTHLY).owned_by(USER), NOW)
    assert same is not None and later is not None and other is not None
    assert same.id == cap.id and later.id != cap.id and other.id != cap.id


def test_limits_that_nobody_owns_count_nowhere() -> None:
    assert key_cap(KeyLimits(budget=MONTHLY), NOW) is None


def test_a_members_cap_is_for_shared_wallets_alone() -> None:
    assert member_cap(group(), USER, NOW) is not None
    assert member_cap(group(shared=False), USER, NOW) is None
    assert member_cap(None, USER, NOW) is None


PAIRS = st.lists(st.tuples(st.uuids(), st.uuids()), min_size=2, max_size=2, unique=True)


@given(PAIRS)
def test_two_members_or_two_groups_never_share_a_budget(pairs: list[tuple[UUID, UUID]]) -> None:
    caps = [member_cap(Group(team, "Team", WALLET, shared=True, member_cap=MONTHLY), user, NOW) for team, user in pairs]
    assert caps[0] is not None and caps[1] is not None and caps[0].id != caps[1].id


def test_a_caller_may_be_bound_twice() -> None:
    both = caps_of(principal(limits=KeyLimits(budget=MONTHLY).owned_by(KEY), group=group()), NOW)
    assert [cap.of for cap in both] == ["key", "member"]
    assert both[0].id != both[1].id

"""Where a user stands: pinned before group before own, the instant of a plan, and who pays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.standing import NoTier, Standing, stand
from accounts.users import User
from config.catalog import Catalog
from ledger.money import NANO
from policies.group import Group
from policies.tier import Allowance, Tier

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TIERS = {name: Tier(name, allowance=Allowance(NANO)) for name in ("free", "basic", "pro", "vip")}


def user(**fields: Any) -> User:
    told: dict[str, Any] = {"tier": "basic", "tier_since": NOW - timedelta(days=40), **fields}
    given = {"email": "", "name": "", "role": "user", "status": "active", "language": "en", **told}
    return User(UUID(int=1), UUID(int=2), "r", "s", **given)


def group(number: int, **fields: Any) -> Group:
    return Group(UUID(int=number), f"g{number}", UUID(int=1000 + number), **fields)


def standing(who: User, *groups: Group, now: datetime = NOW) -> Standing:
    return stand(who, Catalog(tiers=TIERS, groups={each.id: each for each in groups}), "free", now)


def in_groups(*numbers: int, **fields: Any) -> User:
    return user(groups=tuple(UUID(int=number) for number in numbers), **fields)


def test_who_belongs_to_nothing_has_the_own_tier_and_wallet() -> None:
    found = standing(user())
    assert (found.tier.name, found.group, found.wallet_id) == ("basic", None, UUID(int=2))
    assert found.since == NOW - timedelta(days=40)


def test_a_groups_tier_comes_before_the_own_and_a_pinned_one_before_the_groups() -> None:
    pro = group(1, tier="pro")
    assert standing(in_groups(1), pro).tier.name == "pro"
    assert standing(in_groups(1, tier_pinned=True), pro).tier.name == "basic"


def test_of_several_groups_the_first_that_has_a_tier_decides_by_priority_then_name() -> None:
    silent, later, sooner = group(1, priority=1), group(2, tier="pro"), group(3, tier="vip", priority=50)
    assert standing(in_groups(1, 2, 3), silent, later, sooner).tier.name == "vip"
    assert standing(in_groups(1, 2), silent, later).tier.name == "pro"
    assert standing(in_groups(2, 4), later, group(4, tier="vip")).tier.name == "pro"


def test_a_group_that_is_not_in_force_gives_nothing() -> None:
    assert standing(in_groups(1, 2), group(2, tier="pro")).tier.name == "pro"
    assert standing(in_groups(1)).tier.name == "basic"


def test_a_planned_change_bites_at_its_instant_and_is_pinned_from_then_on() -> None:
    planned = in_groups(1, next_tier="vip", next_tier_at=NOW)
    assert standing(planned, group(1, tier="pro"), now=NOW - timedelta(microseconds=1)).tier.name == "pro"
    found = standing(planned, group(1, tier="pro"))
    assert (found.tier.name, found.since) == ("vip", NOW)


def test_a_planned_change_to_the_tier_one_has_begins_nothing() -> None:
    found = standing(user(next_tier="basic", next_tier_at=NOW))
    assert found.since == NOW - timedelta(days=40)


def test_why_a_tier_is_in_force_is_told() -> None:
    pro = group(1, tier="pro")
    assert standing(user()).why == "default"
    assert standing(in_groups(1), pro).why == "group"
    assert standing(in_groups(1, tier_pinned=True), pro).why == "pinned"
    assert standing(in_groups(1, next_tier="vip", next_tier_at=NOW), pro).why == "pinned"
    assert standing(in_groups(1), group(1, tier="gone")).why == "missing"


def test_a_tier_that_is_gone_is_the_default_one() -> None:
    assert standing(user(tier="gone")).tier.name == "free"
    assert standing(in_groups(1), group(1, tier="gone")).tier.name == "free"
    assert standing(user(next_tier="gone", next_tier_at=NOW)).tier.name == "free"


def test_without_any_tier_nobody_stands() -> None:
    with pytest.raises(NoTier, match="free"):
        stand(user(), Catalog(), "free", NOW)


def test_a_shared_wallet_pays_and_gets_the_groups_credits_alone() -> None:
    own, team = group(1, allowance=Allowance(1)), group(2, shared=True, priority=200)
    found = standing(in_groups(1, 2), own, team)
    assert (found.group, found.wallet_id, found.money_plan) == (team, team.wallet_id, None)
    rich = group(3, shared=True, allowance=Allowance(7))
    plan = standing(in_groups(1, 3), own, rich).money_plan
    assert plan is not None and (plan.amount, plan.name) == (7, f"group:{rich.id}")


def test_the_first_shared_wallet_pays() -> None:
    found = standing(in_groups(1, 2), group(1, shared=True, priority=2), group(2, shared=True, priority=1))
    assert found.wallet_id == UUID(int=1002)


def test_default_credits_come_in_place_of_the_tiers() -> None:
    found = standing(in_groups(1, 2), group(1), group(2, allowance=Allowance(5), priority=200))
    plan = found.money_plan
    assert found.wallet_id == UUID(int=2)
    assert plan is not None and (plan.amount, plan.name) == (5, f"group:{UUID(int=2)}")


def test_a_group_without_credits_leaves_the_tiers_allowance() -> None:
    found = standing(in_groups(1), group(1, tier="pro"))
    plan = found.money_plan
    assert found.group is not None and plan is not None and plan.name == "pro"


def test_tokens_beside_money_and_never_beside_a_shared_wallet() -> None:
    catalog = Catalog(
        tiers={"free": Tier("free", allowance=Allowance(1000, "tokens"))},
        groups={UUID(int=1): group(1, allowance=Allowance(5)), UUID(int=2): group(2, shared=True)},
    )
    member = stand(in_groups(1), catalog, "free", NOW)
    assert member.money_plan is not None and member.token_plan is not None and member.token_plan.amount == 1000
    assert stand(in_groups(2), catalog, "free", NOW).token_plan is None


@pytest.mark.parametrize(
    ("tier", "ends"),
    [
        (Tier("free", allowance=Allowance(1, every="week")), "2026-03-16"),
        (Tier("free", allowance=Allowance(1000, "tokens", "day")), "2026-03-11"),
        (Tier("free"), "2026-04-01"),
        (Tier("free", price_every="year"), "2027-01-01"),
    ],
)
def test_the_end_of_the_running_period_is_the_allowances_or_the_prices(tier: Tier, ends: str) -> None:
    found = stand(user(tier="free"), Catalog(tiers={"free": tier}), "free", NOW)
    assert found.period_end(NOW) == datetime.fromisoformat(ends).replace(tzinfo=UTC)


names = st.sampled_from([*TIERS, "gone"])
instants = st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
group_sets = st.lists(
    st.builds(
        lambda tier, priority, shared, gives: (tier, priority, shared, Allowance(3) if gives else None),
        st.none() | names,
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(names, st.booleans(), st.none() | names, instants, group_sets, instants)
def test_the_order_of_who_decides_always_holds(
    tier: str, pinned: bool, planned: str | None, at: datetime, told: list[Any], now: datetime
) -> None:
    groups = [
        group(number, tier=name, priority=priority, shared=shared, allowance=allowance)
        for number, (name, priority, shared, allowance) in enumerate(told, 1)
    ]
    who = in_groups(
        *range(1, len(told) + 1),
        tier=tier,
        tier_pinned=pinned,
        next_tier=planned,
        next_tier_at=at if planned else None,
    )
    found = standing(who, *reversed(groups), now=now)
    ordered = sorted(groups, key=lambda each: (each.priority, each.name))
    by_group = [each.tier for each in ordered if each.tier]
    wanted = planned if planned and at <= now else tier if pinned or not by_group else by_group[0]
    assert found.tier.name == (wanted if wanted in TIERS else "free")
    shared = [each.wallet_id for each in ordered if each.shared]
    assert found.wallet_id == (shared[0] if shared else UUID(int=2))
    giving = [each for each in ordered if each.shared] or [each for each in ordered if each.allowance]
    plan = found.money_plan
    if not giving:
        assert plan is not None and plan.name == found.tier.name
    elif giving[0].allowance is None:
        assert plan is None
    else:
        assert plan is not None and plan.name == f"group:{giving[0].id}"

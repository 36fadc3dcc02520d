"""Which allowance a tier or a group gives, and on which day its periods begin, wherever its zone lies."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.period import Plan, bounds
from policies.allowance import money_plan, shared_plan, token_plan
from policies.group import Group
from policies.tier import Allowance, Tier

ZONES = ("Pacific/Kiritimati", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe")
LEAP = datetime(2028, 2, 29, 12, tzinfo=UTC)
instants = st.datetimes(datetime(2015, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def tier(allowance: Allowance | None) -> Tier:
    return Tier("pro", allowance=allowance)


def team(allowance: Allowance | None = None, *, shared: bool = False) -> Group:
    return Group(UUID(int=1), "team", UUID(int=2), allowance=allowance, shared=shared)


def test_money_is_no_tokens_and_tokens_are_no_money() -> None:
    money, tokens = tier(Allowance(5)), tier(Allowance(1000, "tokens", "week", "Asia/Kolkata", 3))
    assert money_plan(money, LEAP) == Plan(5, name="pro") and token_plan(money, LEAP) is None
    assert token_plan(tokens, LEAP) == Plan(1000, "week", "Asia/Kolkata", 3, "pro") and money_plan(tokens, LEAP) is None
    assert money_plan(tier(None), LEAP) is None and token_plan(tier(None), LEAP) is None


def test_a_groups_credits_stand_in_place_of_the_tiers_money_and_leave_its_tokens() -> None:
    given_, name = team(Allowance(9, every="day")), f"group:{UUID(int=1)}"
    assert money_plan(tier(Allowance(5)), LEAP, given_) == Plan(9, "day", name=name)
    assert money_plan(tier(Allowance(1000, "tokens")), LEAP, given_) == Plan(9, "day", name=name)
    assert token_plan(tier(Allowance(1000, "tokens")), LEAP, given_) == Plan(1000, name="pro")


def test_a_group_that_gives_nothing_leaves_the_tiers_money() -> None:
    assert money_plan(tier(Allowance(5)), LEAP, team()) == Plan(5, name="pro")


def test_a_shared_wallet_is_given_the_groups_credits_and_nothing_of_a_members_tier() -> None:
    assert money_plan(tier(Allowance(5)), LEAP, team(shared=True)) is None
    assert token_plan(tier(Allowance(5, "tokens")), LEAP, team(shared=True)) is None
    plan = money_plan(tier(Allowance(5)), LEAP, team(Allowance(9), shared=True))
    assert plan is not None and plan.amount == 9


def test_a_groups_wallet_is_given_what_its_members_would_spend_there_whatever_their_tier() -> None:
    shared = team(Allowance(9, every="week", zone="Asia/Kolkata", anchor=3), shared=True)
    assert shared_plan(shared) == money_plan(tier(Allowance(5)), LEAP, shared) is not None
    assert shared_plan(team(Allowance(9))) is None and shared_plan(team(shared=True)) is None


@pytest.mark.parametrize(
    ("zone", "since", "day"),
    [
        # The same instant is another day, and another month, for who lives elsewhere.
        ("Pacific/Kiritimati", "2026-01-31T10:00", 1),
        ("America/New_York", "2026-02-01T04:59", 31),
        ("America/New_York", "2026-02-01T05:00", 1),
        ("Asia/Kolkata", "2026-03-14T18:30", 15),
        ("Australia/Lord_Howe", "2026-10-03T15:30", 4),  # the night in which its clocks go forward by half an hour
        ("UTC", "2028-02-29T00:00", 29),
    ],
)
def test_an_anniversary_is_the_day_of_the_allowances_own_zone(zone: str, since: str, day: int) -> None:
    began = datetime.fromisoformat(since).replace(tzinfo=UTC)
    plan = money_plan(tier(Allowance(1, zone=zone, anniversary=True)), began)
    assert plan is not None and plan.anchor == day


def test_who_began_on_the_31st_has_the_last_day_of_every_shorter_month() -> None:
    plan = money_plan(tier(Allowance(1, anniversary=True)), datetime(2027, 12, 31, 9, tzinfo=UTC))
    assert plan is not None
    starts, now = [], datetime(2028, 1, 1, tzinfo=UTC)
    for _ in range(5):
        start, now = bounds(plan, now)
        starts.append(f"{start:%m-%d}")
    assert starts == ["12-31", "01-31", "02-29", "03-31", "04-30"]


def test_who_began_on_29_february_has_the_28th_where_there_is_none() -> None:
    plan = token_plan(tier(Allowance(1, "tokens", anniversary=True)), LEAP)
    assert plan is not None
    assert bounds(plan, datetime(2029, 2, 28, 12, tzinfo=UTC))[0] == datetime(2029, 2, 28, tzinfo=UTC)
    assert bounds(plan, datetime(2029, 3, 1, tzinfo=UTC))[1] == datetime(2029, 3, 29, tzinfo=UTC)


@settings(deadline=None)
@given(st.sampled_from(ZONES), instants, st.integers(0, 2000))
def test_every_period_by_the_month_begins_on_the_anniversary_at_local_midnight(
    zone: str, since: datetime, days: int
) -> None:
    plan = money_plan(tier(Allowance(1, zone=zone, anniversary=True)), since)
    assert plan is not None
    began = since.astimezone(ZoneInfo(zone))
    now = since + timedelta(days=days)
    start, end = bounds(plan, now)
    assert start <= now < end
    for border in (start, end):
        local = border.astimezone(ZoneInfo(zone))
        assert local.day == min(began.day, calendar.monthrange(local.year, local.month)[1])
        assert (local.hour, local.minute) == (0, 0)


@settings(deadline=None)
@given(st.sampled_from(ZONES), instants)
def test_the_first_period_begins_on_the_day_the_tier_was_got(zone: str, since: datetime) -> None:
    for every in ("month", "week"):
        plan = token_plan(tier(Allowance(1, "tokens", every, zone, anniversary=True)), since)
        assert plan is not None
        start = bounds(plan, since)[0].astimezone(ZoneInfo(zone))
        assert start.date() == since.astimezone(ZoneInfo(zone)).date()

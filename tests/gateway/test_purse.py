"""What may pay for a call, and what is told when nothing does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from config.catalog import Model
from gateway.bill import Bill
from gateway.order import Candidate, Order
from gateway.purse import Purse, money_of, purses_of, tokens_of, unpaid
from ledger.budget import Budget
from ledger.hold import CallFacts
from ledger.period import bounds
from ledger.price import BY_TOKENS, Price, charge_amount
from ledger.store import HoldReply, HoldStatus
from ledger.usage import Usage
from ledger.wallet import token_wallet_id
from policies.group import Group
from policies.key_limits import KeyLimits
from policies.principal import Principal
from policies.tier import Allowance, Tier
from tests.gateway.parts import FREE_OF_CHARGE, order_of

USER, WALLET, KEY, TEAM, TEAMS_WALLET = (UUID(int=number) for number in range(1, 6))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PRICE = Price(7, "small", {"input": 150_000, "output": 600_000})
DEAR = Price(8, "dear", {"input": 150_000, "output": 900_000}, per_request=100)
TESTER = Tier("tester", allowance=Allowance(1000, "tokens"))
FREE = Tier("free", title="Free", allowance=Allowance(10**9))
FACTS = CallFacts(user_id=USER, tier="free", model="small", route="chat.completions")


def principal(**more: Any) -> Principal:
    return Principal(USER, WALLET, "r", "s", "", "Ada", "user", "free", "active", "en", **more)


def order(tier: Tier, usage: Usage | None = None, who: Principal | None = None, **more: Any) -> Order:
    foreseen = usage or Usage(input=10)
    candidates = tuple(
        Candidate(Model(price.model, "main", price.model), Bill(price, tier.markup_ppm, foreseen))
        for price in (PRICE, DEAR)
    )
    return order_of(who or principal(), tier, candidates, 100, **more)


def test_money_holds_the_dearest_of_those_that_may_answer() -> None:
    (money,) = purses_of(order(Tier("paid", markup_ppm=2_000_000)), NOW)
    assert (money.wallet_id, money.currency, money.of) == (WALLET, "USD", "balance")
    assert money.wanted == money.cost == 2 * (10 * 150 + 100 * 900) + 100
    assert money.minimum == 2 * (10 * 150 + 16 * 900) + 100
    ask = money.ask(KEY, FACTS)
    assert (ask.wanted, ask.minimum, ask.price_version, ask.factor_ppm) == (money.wanted, money.minimum, 7, 2_000_000)


def test_tokens_come_first_and_cost_no_money() -> None:
    tokens, money = purses_of(order(TESTER), NOW)
    assert (tokens.wallet_id, tokens.currency, tokens.of) == (token_wallet_id(WALLET), "TOK", "tokens")
    assert (tokens.wanted, tokens.minimum, tokens.cost) == (110, 26, 0)
    ask = tokens.ask(KEY, FACTS)
    assert (ask.price_version, ask.factor_ppm, ask.budgets) == (BY_TOKENS, 1_000_000, ())
    assert ask.plan is not None and ask.plan.amount == 1000
    assert (money.currency, money.plan) == ("USD", None)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_charge_in_tokens_is_the_number_of_tokens(given: int, cached: int, written: int) -> None:
    usage = Usage(input=given, cache_read=cached, output=written, reasoning=1, web_searches=3)
    tokens = purses_of(order(TESTER), NOW)[0]
    bill = tokens.candidates[0].bill
    assert charge_amount(usage, bill.price, bill.factor_ppm) == usage.tokens == bill.amount(usage)


OTHERS = [Usage(images=1), Usage(input=5, seconds=3), Usage(input=5, characters=9)]


@pytest.mark.parametrize("usage", OTHERS)
def test_what_is_not_counted_in_tokens_is_paid_with_money(usage: Usage) -> None:
    (money,) = purses_of(order(TESTER, usage), NOW)
    refusal = unpaid(order(TESTER, usage), [(money, HoldReply(HoldStatus.POOR, 0, 0))], NOW)
    assert refusal.code == "insufficient_balance"


def test_a_call_without_any_tokens_is_not_free_for_who_has_tokens() -> None:
    [money] = purses_of(replace(order(TESTER, Usage(characters=0)), reserve=0), NOW)
    assert money.currency == "USD" and money.wanted == 100  # the price of the request itself


@pytest.mark.parametrize("tier", [Tier("none", allowance=Allowance(0, "tokens")), FREE, Tier("paid")])
def test_without_tokens_there_is_one_purse(tier: Tier) -> None:
    assert [purse.currency for purse in purses_of(order(tier), NOW)] == ["USD"]


def test_who_does_not_pay_has_nothing_held() -> None:
    team = Group(TEAM, "Team", TEAMS_WALLET, shared=True, member_cap=Budget(9))
    who = principal(limits=KeyLimits(budget=Budget(1)).owned_by(KEY), group=team)
    (house,) = purses_of(order(Tier("admin", unlimited=True, allowance=Allowance(5, "tokens")), who=who), NOW)
    assert (house.wanted, house.minimum, [cap.of for cap in house.caps]) == (0, 0, ["key"])
    (free,) = purses_of(order(TESTER, who=who, surface=FREE_OF_CHARGE), NOW)
    assert (free.wanted, free.minimum, free.caps) == (0, 0, ())


def test_budgets_bound_money_and_not_tokens() -> None:
    limits = KeyLimits(budget=Budget(10**9, "month")).owned_by(KEY)
    tokens, money = purses_of(order(TESTER, who=principal(limits=limits)), NOW)
    assert tokens.caps == () and [cap.of for cap in money.caps] == ["key"]
    assert [(each.id, each.limit) for each in money.ask(KEY, FACTS).budgets] == [(money.caps[0].id, 10**9)]


def test_a_shared_wallet_has_the_groups_money_and_nobodys_tokens() -> None:
    team = Group(TEAM, "Team", TEAMS_WALLET, shared=True, allowance=Allowance(5), member_cap=Budget(9))
    who = principal(group=team)
    assert tokens_of(who, TESTER) is None
    plan = money_of(who, FREE)
    assert plan is not None and (plan.amount, plan.name) == (5, f"group:{TEAM}")
    (money,) = purses_of(order(TESTER, who=who), NOW)
    assert [cap.of for cap in money.caps] == ["member"]


ZONES = st.sampled_from(["Pacific/Kiritimati", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "UTC"])
INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2032, 12, 31), timezones=st.just(UTC))


@given(ZONES, INSTANTS, INSTANTS, st.sampled_from(["day", "week", "month", "year"]), st.booleans())
def test_tokens_come_back_at_the_end_of_every_period(
    zone: str, since: datetime, now: datetime, every: Any, anniversary: bool
) -> None:
    yearly = anniversary and every in ("week", "month")
    tier = Tier("t", allowance=Allowance(1000, "tokens", every, zone, anniversary=yearly))
    plan = tokens_of(principal(since=since), tier)
    assert plan is not None
    start, end = bounds(plan, now)
    assert start <= now < end
    assert bounds(plan, end)[0] == end and bounds(plan, end - timedelta(microseconds=1))[0] == start


# What is told -------------------------------------------------------------------------------------------------------


def told(tier: Tier, *replies: HoldReply, who: Principal | None = None) -> Any:
    asked = order(tier, who=who)
    purses = purses_of(asked, NOW)
    return unpaid(asked, list(zip(purses, replies, strict=False)), NOW)


def test_each_answer_of_the_bank_has_its_refusal() -> None:
    poor = HoldReply(HoldStatus.POOR, 0, 0)
    assert told(Tier("paid"), poor).code == "insufficient_balance"
    assert told(Tier("paid"), HoldReply(HoldStatus.UNKNOWN, 0, 0)).code == "insufficient_balance"
    assert told(FREE, poor).details["resets_at"] == "2026-12-01T00:00:00Z"
    for status in (HoldStatus.SUSPENDED, HoldStatus.CLOSED):
        assert told(FREE, HoldReply(status, 0, 0)).code == "account_suspended"
    assert told(FREE, HoldReply(HoldStatus.DUPLICATE, 0, 0)).code == "idempotency_conflict"
    assert told(TESTER, HoldReply(HoldStatus.SUSPENDED, 0, 0)).code == "account_suspended"


def test_tokens_that_are_gone_are_told_of_whatever_the_wallet_lacks() -> None:
    refusal = told(TESTER, HoldReply(HoldStatus.POOR, 0, 12), HoldReply(HoldStatus.POOR, 0, 5))
    assert (refusal.code, refusal.details["tokens_left"], refusal.details["tokens_needed"]) == (
        "allowance_exhausted",
        12,
        26,
    )
    none = told(Tier("none", allowance=Allowance(0, "tokens")), HoldReply(HoldStatus.POOR, 0, 0))
    assert "includes no tokens" in none.message


def test_a_budget_that_is_used_up_is_named() -> None:
    who = principal(limits=KeyLimits(budget=Budget(10**9, "month")).owned_by(KEY))
    money = purses_of(order(Tier("paid"), who=who), NOW)[0]
    refusal = told(Tier("paid"), HoldReply(HoldStatus.CAPPED, 0, 3, money.caps[0].id), who=who)
    assert (refusal.details["limit"], refusal.details["resets_at"]) == ("key_budget", "2026-12-01T00:00:00Z")


def test_a_purse_says_what_it_is() -> None:
    purse = Purse(WALLET, "USD", money_of(principal(), FREE), (), 5, 5)
    assert (purse.of, purse.in_tokens, purse.cost) == ("allowance", False, 5)

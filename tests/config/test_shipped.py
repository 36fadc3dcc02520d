"""The shipped tiers keep what each promises, whatever models an operator has."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from config.catalog import Declared, complaints
from config.settings import Settings
from config.shipped import shipped_tiers
from gateway.surfaces import SURFACES
from ledger.money import NANO
from ledger.period import bounds
from policies.allowance import token_plan
from policies.tier import Tier, Window

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TIERS = {tier.name: tier for tier in shipped_tiers()}


def ladder(name: str) -> list[str]:
    """The tier and where its users are led, step by step."""
    steps = [name]
    while (step := TIERS[steps[-1]].upgrade_to) is not None:
        assert step not in steps
        steps.append(step)
    return steps


def per_day(tier: Tier) -> int:
    """What a user may spend in a day, nano-USD; 0: no bound."""
    return next((window.limit for window in tier.windows if (window.of, window.seconds) == ("cost", 86_400)), 0)


def test_the_ten_are_there_and_fit_each_other() -> None:
    assert list(TIERS) == [
        "free", "tester", "basic", "premium", "pro", "vip", "creator", "agency", "enterprise", "admin",
    ]  # fmt: skip
    assert complaints(Declared(tiers=tuple(TIERS.values()))) == []
    assert Settings.model_fields["default_tier"].default in TIERS


def test_each_leads_up_and_none_in_a_circle() -> None:
    assert ladder("free") == ["free", "basic", "premium", "pro", "vip"]
    assert ladder("tester") == ["tester", *ladder("basic")]
    assert ladder("creator") == ["creator", "agency", "enterprise"]
    assert ladder("vip") == ["vip"] and ladder("admin") == ["admin"]


def test_free_may_not_chat_and_is_told_the_way() -> None:
    free = TIERS["free"]
    plan = token_plan(free, NOW)
    assert plan is not None and plan.amount == 0
    assert free.price == 0 and free.upgrade_to == "basic"


def test_every_tier_grants_the_tools_that_a_chat_page_sends_unasked() -> None:
    assert all(tier.allows_feature("tools") for tier in TIERS.values())


def test_a_tester_has_a_thousand_tokens_back_on_the_first() -> None:
    plan = token_plan(TIERS["tester"], NOW)
    assert plan is not None and plan.amount == 1000
    assert bounds(plan, NOW) == (
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("names", [("basic", "premium", "pro", "vip"), ("creator", "agency", "enterprise")])
def test_whoever_pays_more_has_more_of_everything(names: tuple[str, ...]) -> None:
    tiers = [TIERS[name] for name in names]
    for lower, higher in pairwise(tiers):
        assert lower.allowance is not None and higher.allowance is not None
        assert lower.allowance.amount < higher.allowance.amount
        assert _a_year(lower) < _a_year(higher)
        assert lower.concurrency < higher.concurrency
        assert per_day(lower) < per_day(higher) or not per_day(higher)
        assert set(lower.features) <= set(higher.features) or higher.features == ("*",)
        for bound in ("max_context", "max_output"):
            ours, theirs = getattr(lower, bound), getattr(higher, bound)
            assert theirs is None or (ours is not None and ours <= theirs)


def _a_year(tier: Tier) -> int:
    return tier.price * (1 if tier.price_every == "year" else 12)


@pytest.mark.parametrize("tier", [tier for tier in TIERS.values() if tier.price], ids=lambda tier: tier.name)
def test_what_a_tier_gives_costs_the_house_no_more_than_it_takes(tier: Tier) -> None:
    assert tier.allowance is not None and tier.allowance.unit == "usd" and tier.allowance.every == "month"
    at_list_price = tier.allowance.amount * 12 * 1_000_000 // tier.markup_ppm
    assert at_list_price < _a_year(tier)


@pytest.mark.parametrize("tier", [tier for tier in TIERS.values() if not tier.unlimited], ids=lambda tier: tier.name)
def test_nobody_is_without_a_pace(tier: Tier) -> None:
    assert tier.concurrency and any(window.of == "requests" for window in tier.windows)
    assert tier.allows_model("any-model") and tier.title
    day = per_day(tier)
    if day:
        assert tier.allowance is not None and NANO // 10 < day < tier.allowance.amount


def test_creators_make_pictures_and_sound() -> None:
    creator = TIERS["creator"]
    assert creator.allows_feature("images") and creator.allows_feature("audio")
    routes = {window.route for window in creator.windows if window.route}
    assert routes == {"images.generations", "audio.speech"} <= {surface.route for surface in SURFACES}
    assert Window(200, "requests", 86_400, "images.generations") in creator.windows


def test_an_admin_pays_nothing_and_has_no_bound() -> None:
    admin = TIERS["admin"]
    assert admin.unlimited and not admin.windows and not admin.concurrency and admin.allowance is None

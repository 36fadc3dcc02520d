"""Lanes: tasks and embeddings do not take a person's place, and are bounded all the same."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.key_limits import KeyLimits
from policies.lanes import Lane, beside, concurrency, counted, lane_of, lane_of_window
from policies.tier import AMOUNT_MAX, Tier, Window

MINUTE, ROUTED = Window(20, "requests", 60), Window(9, "requests", 60, "chat.completions")
TOKENS, COST = Window(1000, "tokens", 3600), Window(5, "cost", 86_400)
TIER = Tier("t", windows=(MINUTE, ROUTED, TOKENS, COST), concurrency=3)
CHAT = "chat.completions"


def names(tier: Tier, lane: Lane, route: str = CHAT, limits: KeyLimits | None = None) -> dict[str, int]:
    return {window.name: window.limit for window in counted(tier, limits, route, "small", lane)}


@pytest.mark.parametrize(
    ("route", "task", "lane"),
    [
        (CHAT, "", "own"),
        (CHAT, "title_generation", "tasks"),
        ("embeddings", "", "embeddings"),
        ("embeddings", "title_generation", "embeddings"),
    ],
)
def test_a_call_has_one_lane(route: str, task: str, lane: Lane) -> None:
    assert lane_of(route, task) == lane


def test_what_a_person_asks_for_counts_in_the_tiers_own_windows() -> None:
    assert counted(TIER, None, CHAT, "small", "own") == TIER.windows


def test_a_task_counts_beside_them_and_in_all_that_count_everything() -> None:
    assert names(TIER, "tasks") == {
        "tasks/requests/60": 80,
        "requests/60/chat.completions": 9,
        "tokens/3600": 1000,
        "cost/86400": 5,
    }


def test_embeddings_count_beside_both() -> None:
    assert names(TIER, "embeddings", "embeddings") == {
        "embeddings/requests/60": 1000,
        "tokens/3600": 1000,
        "cost/86400": 5,
    }


def test_a_window_of_their_own_stands_for_the_wider_one() -> None:
    own = Window(7, "requests", 60, "embeddings")
    tier = Tier("t", windows=(MINUTE, own))
    assert names(tier, "embeddings", "embeddings") == {own.name: 7}
    assert own.name not in names(tier, "own")


def test_a_keys_windows_have_lanes_of_their_own() -> None:
    limits = KeyLimits(windows=(Window(2, "requests", 60), Window(9, "tokens", 60))).owned_by(UUID(int=1))
    scope = f"key:{UUID(int=1)}"
    assert names(Tier("t", tasks_per_request=3), "tasks", limits=limits) == {
        f"{scope}:tasks/requests/60": 6,
        f"{scope}/tokens/60": 9,
    }


def test_how_wide_the_lanes_are_is_the_tiers_to_say() -> None:
    tier = Tier("t", windows=(MINUTE,), concurrency=3, tasks_per_request=1, embeddings_per_request=2)
    assert (names(tier, "tasks"), names(tier, "embeddings", "embeddings")) == (
        {"tasks/requests/60": 20},
        {"embeddings/requests/60": 40},
    )
    assert [concurrency(tier, lane) for lane in ("own", "tasks", "embeddings")] == [3, 3, 8]


@pytest.mark.parametrize(
    ("tier", "at_once"),
    [
        (Tier("t"), (0, 0, 0)),
        (Tier("t", concurrency=1), (1, 4, 8)),
        (Tier("t", concurrency=16), (16, 64, 16)),
        (Tier("t", concurrency=16, embeddings_concurrency=2), (16, 64, 2)),
        (Tier("t", concurrency=16, embeddings_concurrency=0), (16, 64, 0)),
        (Tier("t", embeddings_concurrency=5), (0, 0, 5)),
    ],
)
def test_each_lane_has_its_own_calls_at_once(tier: Tier, at_once: tuple[int, int, int]) -> None:
    assert (concurrency(tier, "own"), concurrency(tier, "tasks"), concurrency(tier, "embeddings")) == at_once


def test_all_windows_of_a_tier_are_those_that_any_call_may_count_in() -> None:
    everything = {window.name for window in (*TIER.windows, *beside(TIER, TIER.windows))}
    met = {name for lane, route in (("own", CHAT), ("tasks", CHAT)) for name in names(TIER, lane, route)}  # type: ignore[arg-type]
    assert everything == met | names(TIER, "embeddings", "embeddings").keys()
    assert len(everything) == len(TIER.windows) + len(beside(TIER, TIER.windows))


def test_a_window_says_whose_calls_it_counts() -> None:
    said = {window.name: lane_of_window(window) for window in (*TIER.windows, *beside(TIER, TIER.windows))}
    assert said == {
        "requests/60": "own",
        "tasks/requests/60": "tasks",
        "embeddings/requests/60": "embeddings",
        "requests/60/chat.completions": None,
        "tokens/3600": None,
        "cost/86400": None,
    }
    limits = KeyLimits(windows=(MINUTE,)).owned_by(UUID(int=1))
    assert [lane_of_window(each) for each in limits.windows] == ["own"]
    assert [lane_of_window(each) for each in beside(TIER, limits.windows)] == ["tasks", "embeddings"]


@given(limit=st.integers(0, AMOUNT_MAX), times=st.integers(1, 1000))
def test_a_forged_label_gains_no_more_than_the_factor(limit: int, times: int) -> None:
    tier = Tier("t", windows=(Window(limit, "requests", 60),), tasks_per_request=times)
    (window,) = counted(tier, None, CHAT, "small", "tasks")
    assert window.limit == min(limit * times, AMOUNT_MAX)

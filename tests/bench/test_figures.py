"""Medians, ratios round by round, and the search for the largest load that holds."""

from __future__ import annotations

import pytest

from bench.figures import difference, largest, medians, ratio, spread


def test_each_figure_has_its_median_over_the_runs_that_have_it() -> None:
    assert medians([{"a": 1, "b": 5}, {"a": 9}, {"a": 2, "b": 7}]) == {"a": 2, "b": 6}
    assert medians([]) == {}


def test_a_spread_is_the_least_and_the_greatest() -> None:
    assert spread([3, 1, 2]) == (1, 3)


ROUNDS = [
    {"ours": {"calls": 100.0}, "theirs": {"calls": 50.0}},
    {"ours": {"calls": 10.0}, "theirs": {"calls": 4.0}},  # a slow round: both were slow
    {"ours": {"calls": 120.0}, "theirs": {"calls": 40.0}},
    {"ours": {"calls": 500.0}},
]


def test_a_ratio_is_taken_within_each_round() -> None:
    assert ratio(ROUNDS, "calls", "ours", "theirs") == 2.5  # of the medians it would be 2.75
    assert difference(ROUNDS, "calls", "ours", "theirs") == 50


def test_there_is_no_ratio_without_both() -> None:
    assert ratio(ROUNDS, "calls", "ours", "nobody") is None
    assert ratio(ROUNDS, "chunks", "ours", "theirs") is None
    assert ratio([{"a": {"x": 1.0}, "b": {"x": 0.0}}], "x", "a", "b") is None
    assert difference(ROUNDS, "calls", "nobody", "ours") is None


@pytest.mark.parametrize("truth", [1, 7, 49, 50, 51, 99, 640, 999, 1000, 3999, 4000])
def test_the_largest_load_is_found_to_within_a_part(truth: int) -> None:
    asked: list[int] = []

    def holds(load: int) -> bool:
        asked.append(load)
        return load <= truth

    found = largest(holds, start=50, limit=4000)
    assert 0 <= truth - found <= max(1, truth * 0.05)
    assert len(asked) < 20 and max(asked) <= 4000


def test_where_nothing_holds_it_is_none() -> None:
    assert largest(lambda _: False, start=50, limit=4000) == 0


def test_it_stops_at_the_limit() -> None:
    assert largest(lambda _: True, start=50, limit=4000) == 4000
    assert largest(lambda _: True, start=50, limit=50) == 50

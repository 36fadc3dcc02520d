"""The table of goals says what was measured, and how far that is."""

from __future__ import annotations

import pytest

from bench.goals import GOALS, table
from tests.bench.results import CALLS, measured


def lines(*known: object) -> dict[tuple[str, str], list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(known)]  # type: ignore[arg-type]
    return {(row[0], row[1]): row[2:] for row in rows[2:]}


def test_every_goal_has_its_line_also_where_nothing_was_measured() -> None:
    shown = lines()
    assert len(shown) == len(GOALS) == 11
    assert all(set(measured) <= set("–, ") and not verdict for _, measured, verdict in shown.values())


def test_ratios_and_differences_are_those_of_the_rounds() -> None:
    shown = lines(CALLS)
    assert shown["calls/s", "≥ 35 × LiteLLM bare"] == ["≥ 65 × LiteLLM bare", "43.2 × LiteLLM bare", "reach"]
    assert shown["CPU a call beyond the bare relay", "≤ 200 µs"] == ["≤ 100 µs", "110 µs", "reach"]
    assert shown["calls/s", "≥ 4 × Portkey"][1:] == ["–", ""]


@pytest.mark.parametrize(("streams", "verdict"), [(999, "short"), (1000, "reach"), (1800, "stretch")])
def test_a_goal_is_reached_at_its_bound(streams: float, verdict: str) -> None:
    shown = lines(measured("held", {"farebox": {"streams": streams}}))
    assert shown["paced streams held, delay p99 < 50 ms", "≥ 1 000"][2] == verdict


def test_of_two_figures_the_worse_decides() -> None:
    shown = lines(measured("memory", {"farebox": {"kib_per_stream": 15, "process_mib": 300}}))
    says = "memory of an open stream, of the process"
    assert shown[says, "≤ 40 KiB, ≤ 200 MiB"] == ["≤ 20 KiB", "15 KiB, 300 MiB", "short"]


def test_a_grown_ledger_may_cost_a_tenth_more() -> None:
    rounds = {"empty": {"cost_us_per_call": 500.0}, "grown": {"cost_us_per_call": 545.0}}
    shown = lines(measured("ledger-growth", rounds))
    assert shown["a call on a grown ledger", "≤ 1.1 × empty"] == ["", "1.09 × empty", "reach"]

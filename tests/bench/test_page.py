"""A run's JSON becomes tables for a page."""

from __future__ import annotations

import json
from typing import Any

from bench.page import page, read
from bench.report import document
from tests.bench.results import CALLS, measured


def written(*given: Any) -> dict[str, Any]:
    return dict(json.loads(json.dumps(document(given, {}))))


def test_what_was_written_is_read_again() -> None:
    (calls,) = read([written(CALLS)])
    assert (calls.measure, calls.rounds) == (CALLS.measure, CALLS.rounds)


def test_of_several_runs_the_last_counts() -> None:
    again = measured("calls", {"farebox": {"calls_per_s": 7.0}})
    held = measured("held", {"farebox": {"streams": 1200}})
    calls, streams = read([written(CALLS, held), written(again)])
    assert calls.rounds == again.rounds and streams.rounds == held.rounds


def test_a_page_has_the_goals_and_a_table_for_each_measure() -> None:
    skipped = measured("workers")
    skipped.skipped = "there is one core"
    lines = list(page([written(CALLS, skipped)]))
    assert lines[0] == "| measure | reach | stretch | measured | |"
    assert "\n| | calls/s | CPU/call µs | foreign | bad | × farebox |" in lines
    assert "| farebox | 4 000 | 200 | 2% | 0 | 1 |" in lines
    assert lines[-1] == "\n**workers**: there is one core"

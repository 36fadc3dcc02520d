"""How a sync is printed."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from farebox.sync_openwebui import told
from openwebui.report import OfferedMerge, Report

AT = datetime(2026, 12, 1, tzinfo=UTC)


def test_what_was_done_comes_first_and_the_sum_last() -> None:
    report = Report(AT, "done", people=3, changes=3, lines=("a", "b"), notes=("look at c",))
    assert list(told(report)) == [
        "a",
        "b",
        "and 1 more",
        "note: look at c",
        "3 changes made; there are 3 users and 0 groups",
    ]


def test_accounts_that_may_be_one_persons_are_offered() -> None:
    merges = (OfferedMerge("a@x", UUID(int=1), UUID(int=2)), OfferedMerge("b@x", UUID(int=3), None))
    lines = list(told(Report(AT, "tried", merges=merges)))
    assert f"{UUID(int=1)} is gone there, and a@x is {UUID(int=2)}" in lines[0]
    assert "an account that this sync makes" in lines[1]


def test_a_refusal_says_why() -> None:
    assert list(told(Report(AT, "refused", detail="too many"))) == ["too many"]

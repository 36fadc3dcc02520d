"""Rules for tasks as people write them: what is taken, what is refused, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config.task_form import TaskForm
from ledger.budget import Budget
from policies.task import TaskRule


def value(**fields: Any) -> TaskRule:
    return TaskForm.model_validate({"name": "title_generation", **fields}).value()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, TaskRule("title_generation")),
        ({"name": "*", "factor": "0.5"}, TaskRule("*", factor_ppm=500_000)),
        ({"factor": 1}, TaskRule("title_generation")),
        ({"model": "small"}, TaskRule("title_generation", model="small")),
        (
            {"pays": "house", "cap": {"usd": "0.02"}},
            TaskRule("title_generation", "house", cap=Budget(20_000_000, "day")),
        ),
        (
            {"pays": "house", "cap": {"usd": "1", "every": "month", "zone": "Asia/Tehran"}},
            TaskRule("title_generation", "house", cap=Budget(10**9, "month", "Asia/Tehran")),
        ),
    ],
)
def test_what_people_write_means_a_rule_and_is_written_again_alike(fields: dict[str, Any], rule: TaskRule) -> None:
    assert value(**fields) == rule
    assert TaskForm.model_validate(TaskForm.showing(rule).document()).value() == rule


def test_only_what_is_unusual_is_written() -> None:
    assert TaskForm.showing(TaskRule("*")).document() == {"name": "*"}
    house = TaskRule("*", "house", cap=Budget(20_000_000, "day"))
    assert TaskForm.showing(house).document() == {"name": "*", "pays": "house", "cap": {"usd": "0.0200"}}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"factor": "0"}, "for the house to pay"),
        ({"factor": "0.0999"}, "for the house to pay"),
        ({"factor": "1.5"}, 'from "0.1" to "1"'),
        ({"factor": 0.5}, "written as text"),
        ({"pays": "house"}, "there must be a cap"),
        ({"cap": {"usd": "1"}}, "a cap is for what the house pays"),
        ({"pays": "house", "cap": {"usd": "-1"}}, "must not be negative"),
        ({"pays": "house", "cap": {"usd": "1", "zone": "Mars"}}, "time zone"),
        ({"pays": "nobody"}, "'caller' or 'house'"),
        ({"name": "a b"}, "should match pattern"),
        ({"model": ""}, "at least 1"),
        ({"free": True}, "Extra inputs"),
    ],
)
def test_what_would_be_free_or_means_nothing_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        value(**fields)

"""Rules for calls nobody typed: which counts, and that none of them makes a call free."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger.budget import Budget
from policies.task import FACTOR_PPM_MIN, PPM, TaskRule, rule_for

CAP = Budget(20_000_000, "day")


def test_the_rule_that_names_a_task_counts_then_the_longest_pattern() -> None:
    rules = [TaskRule(name) for name in ("*", "*_generation", "title_generation", "title_*")]
    chosen = {task: rule_for(rules, task) for task in ("title_generation", "tags_generation", "title_x", "moa")}
    assert {task: rule and rule.name for task, rule in chosen.items()} == {
        "title_generation": "title_generation",
        "tags_generation": "*_generation",
        "title_x": "title_*",
        "moa": "*",
    }
    assert rule_for(reversed(rules), "title_x") == TaskRule("title_*")


def test_what_a_person_asked_for_follows_no_rule() -> None:
    assert rule_for([TaskRule("*")], "") is None
    assert rule_for([TaskRule("title_generation")], "tags_generation") is None


def test_a_label_that_looks_like_a_pattern_is_taken_at_its_word() -> None:
    assert rule_for([TaskRule("title_generation")], "*") is None
    assert rule_for([TaskRule("*")], "[") == TaskRule("*")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"factor_ppm": 0},
        {"factor_ppm": FACTOR_PPM_MIN - 1},
        {"factor_ppm": PPM + 1},
        {"pays": "house"},
        {"cap": CAP},
        {"pays": "house", "cap": Budget(1)},
    ],
)
def test_no_rule_is_free_without_a_bound(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"task|house|cap"):
        TaskRule(**{"name": "*", **wrong})


def test_a_rule_survives_its_document() -> None:
    rule = TaskRule("*", "house", PPM // 2, CAP, "small")
    assert msgspec.convert(msgspec.to_builtins(rule), TaskRule) == rule

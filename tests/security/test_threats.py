"""The threat model: every line names tests, and every test it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
AT_LEAST = 60


def rows() -> list[list[str]]:
    """The lines of the tables of threats: threat, what is done, tests."""
    model = PAGE.split("\n## Threats\n")[1].split("\n## What is decided\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in model.splitlines() if line[:2] == "| "]
    return [row for row in cells if row[0] not in ("threat", "---")]


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_is_a_model() -> None:
    assert len(rows()) >= AT_LEAST


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_a_threat_is_answered_and_the_answer_is_tested(row: list[str]) -> None:
    threat, answer, tests = row
    assert threat and answer
    named = NAMED.findall(tests)
    assert named, f"no test is named behind: {threat}"
    for file, test in named:
        assert (ROOT / "tests" / file).is_file(), file
        assert test in functions(file), f"{file} has no {test}"


def test_every_attacker_of_the_model_has_a_table() -> None:
    attackers = PAGE.split("\n## Who attacks\n")[1].split("\n## ")[0]
    assert len(re.findall(r"^- \*\*", attackers, re.MULTILINE)) >= 7

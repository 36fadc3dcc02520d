"""Tables for people and a document for programs."""

from __future__ import annotations

import json

import pytest

from bench.report import FORM, document, tables, text
from tests.bench.results import CALLS, call, measured


def test_a_table_has_medians_the_spread_and_the_ratio_to_farebox() -> None:
    lines = list(tables([CALLS]))
    assert lines[0].strip() == "calls: replies in one piece, 64 connections, 64 wallets"
    assert lines[1].split()[:2] == ["calls/s", "CPU/call"] and lines[1].endswith("× farebox")
    direct, farebox = lines[2], lines[3]
    assert direct.split()[:4] == ["direct", "80", "000", "6"] and direct.endswith("20")
    assert "4 000" in farebox and "2 000 … 4 100" in farebox and farebox.endswith("1")


def test_what_was_not_measured_says_why() -> None:
    skipped = measured("workers")
    skipped.skipped = "there is one core"
    assert list(tables([skipped]))[1:] == ["  skipped: there is one core"]
    assert document([skipped], {})["measures"][0]["skipped"] == "there is one core"


def test_what_cannot_be_believed_is_said() -> None:
    doubtful = measured("calls", {"farebox": call(10, 5, bad=3) | {"foreign_busy": 0.4}})
    told = "\n".join(tables([doubtful]))
    assert "farebox: 3 calls were refused, cut or came short." in told
    assert "farebox: other programs used 40% of its core: quote ratios, not figures." in told
    assert "refused" not in "\n".join(tables([CALLS]))


def test_who_could_not_be_measured_is_said() -> None:
    some = measured("calls", {"farebox": call(10, 5)})
    some.failed["LiteLLM bare"] = "no chunk came within 4 s"
    assert list(tables([some]))[-1] == "  LiteLLM bare could not be measured: no chunk came within 4 s"


def test_a_figure_that_somebody_has_not_is_a_dash() -> None:
    held = measured("held", {"farebox": {"streams": 0}})
    assert " – " in list(tables([held]))[2]


@pytest.mark.parametrize(
    ("figure", "value", "shown"),
    [
        ("calls_per_s", 12345.6, "12 346"),
        ("calls_per_s", 100, "100"),
        ("p50_ms", 0.12345, "0.123"),
        ("busy", 0.4567, "46%"),
        ("bad", 0, "0"),
    ],
)
def test_figures_have_no_more_digits_than_were_measured(figure: str, value: float, shown: str) -> None:
    assert text(figure, value) == shown


def test_the_document_holds_every_round() -> None:
    whole = json.loads(json.dumps(document([CALLS], {"machine": {"cores": 2}})))
    assert whole["form"] == FORM and whole["machine"] == {"cores": 2}
    (calls,) = whole["measures"]
    assert calls.keys() == {"name", "says", "lead", "more_is_better", "failed", "rounds", "medians"}
    assert len(calls["rounds"]) == 3 and calls["rounds"][1]["farebox"]["calls_per_s"] == 2_000
    assert calls["medians"]["bare relay"]["cpu_us_per_call"] == 92

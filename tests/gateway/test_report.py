"""The explanation while it is written: what stops a call first is what it is told."""

from __future__ import annotations

from gateway.errors import Refusal
from gateway.report import Report

FIRST, SECOND = Refusal.of("model_not_allowed", "Not this one."), Refusal.of("insufficient_balance", "No money.")


def test_rules_that_pass_let_the_call_through() -> None:
    report = Report()
    report.passes("account", "Fine.", status="active")
    told = report.explanation("free", None)
    assert (told.can_make_request, told.code, told.message, told.tier, told.model) == (True, "", "", "free", None)
    assert (told.rules[0].name, told.rules[0].verdict, told.rules[0].detail) == (
        "account",
        "pass",
        {"status": "active"},
    )


def test_the_first_refusal_is_what_a_call_is_told_and_the_others_stand_beside_it() -> None:
    report = Report()
    report.refuses("model", FIRST)
    report.refuses("balance", SECOND, "There is no money.", needed="1.0000")
    told = report.explanation("free", "large")
    assert (told.can_make_request, told.code, told.message) == (False, "model_not_allowed", "Not this one.")
    assert [(rule.verdict, rule.says) for rule in told.rules] == [
        ("refuse", "Not this one."),
        ("refuse", "There is no money."),
    ]


def test_what_nobody_can_say_stops_a_call_like_a_refusal() -> None:
    report = Report()
    report.unknown("balance", "The bank does not answer.", SECOND)
    told = report.explanation("free", "large")
    assert (told.can_make_request, told.code, told.rules[0].verdict) == (False, "insufficient_balance", "unknown")


def test_a_call_may_be_told_of_a_rule_that_comes_later() -> None:
    report = Report()
    report.stops(SECOND)
    report.refuses("window", FIRST)
    assert report.explanation("free", "large").code == "insufficient_balance"

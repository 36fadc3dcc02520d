"""One person's account as a page: everything in it, in every language, nothing unescaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.account_page import Account, Line, Used, account_page, failed_page
from gateway.language import Wait, shipped
from gateway.offer import ladder
from tests.gateway.offers import CATALOG, EVIL, TIERS

AT = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)
LIMIT = {"of": "requests", "seconds": 60, "route": None, "models": None, "limit": 20, "left": 13}
STATE: dict[str, Any] = {
    "name": EVIL,
    "email": "ada@example.org",
    "balance": "12.345678901",
    "group": None,
    "allowance": {
        "unit": "usd",
        "amount": "5.0000",
        "left": "1.2500",
        "every": "month",
        "resets_at": "2026-12-01T00:00:00Z",
    },
    "credits": None,
    "limits": [LIMIT, LIMIT | {"of": "cost", "limit": "1.0000", "left": "0.5000", "models": ["gpt-*"]}],
    "concurrency": {"limit": 4, "used": 1},
}
USAGE = (Used("small", "USD", 3, 1200, 340, 123_456), Used(EVIL, "TOK", 1, 10, 5, 15))
LINES = (
    Line(AT, "charge", -10_000_000),
    Line(AT, "payment", 10**9),
    Line(AT, "plan", 500, "TOK"),
    Line(AT, "merge", 1),
)


def page(code: str = "en", lines: tuple[Line, ...] = LINES, usage: tuple[Used, ...] = USAGE, **more: Any) -> str:
    tier = next(tier for tier in TIERS if tier.name == "pro")
    account = Account(STATE | more, tier, usage, lines, ladder(CATALOG), "https://fare.example/pricing", AT)
    return account_page(account, shipped()[code]).decode()


@pytest.mark.parametrize("code", sorted(shipped()))
def test_everything_is_on_it_in_every_language(code: str) -> None:
    said = page(code)
    assert "{" not in re.sub(r"<style>.*?</style>", "", said, flags=re.DOTALL) and "<script" not in said
    for each in ("12.3456 USD", "1.2500 USD", "5.0000 USD", "13", "20", "small", "1200", "340", "0.000123456 USD"):
        assert each in said, each
    for each in (
        "-0.0100 USD",
        "1.0000 USD",
        "2026-11-21 18:30 UTC",
        "18:30",
        "gpt-*",
        'href="https://fare.example/pricing"',
    ):
        assert each in said, each


def test_an_entry_is_named_by_what_it_is() -> None:
    said = page()
    assert [word in said for word in ("Usage", "Payment", "Allowance", "Adjustment", "500 tokens")] == [True] * 5


def test_tokens_are_shown_as_tokens() -> None:
    tokens = STATE["allowance"] | {"unit": "tokens", "amount": 1000, "left": 250}
    said = page(allowance=tokens, credits=STATE["allowance"])
    assert "250 tokens of 1000 tokens left" in said and "1.2500 USD of 5.0000 USD left" in said


def test_who_has_nothing_yet_is_told_so() -> None:
    said = page(lines=(), usage=(), limits=[], concurrency={"limit": None, "used": None}, allowance=None)
    assert said.count("Nothing yet.") == 2 and "No limits" in said


def test_a_shared_wallet_says_whose_calls_are_shown() -> None:
    said = page(group={"name": "Team <1>", "shared": True}, lines=(Line(AT, "charge", -5, model="small"),))
    assert "The wallet of your group Team &lt;1&gt; pays" in said and "<bdi>small</bdi>" in said


def test_limits_that_cannot_be_read_are_told_without_what_is_left() -> None:
    said = page(limits=[LIMIT | {"left": None}], concurrency={"limit": 4, "used": None})
    assert "20 requests per minute</td><td>–" in said


def test_a_page_that_cannot_be_shown_is_one_sentence() -> None:
    bad = failed_page(shipped()["fa"], "link_bad", "https://fare.example/pricing").decode()
    assert shipped()["fa"].words("link_bad") in bad and 'dir="rtl"' in bad
    assert "in 5 s." in failed_page(shipped()["en"], "cannot_read", "x", wait=Wait(5)).decode()

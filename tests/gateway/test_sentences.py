"""The sentences: plain, with the wait or the bare address in them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from gateway import sentences
from gateway.errors import Refusal
from ledger.period import Plan
from policies.caps import Cap
from policies.decision import Deny, Standing
from policies.tier import Tier, Window

URL = "https://fare.example/pricing"
FREE = Tier("free", title="Free of charge", upgrade_to="pro")
KEY = UUID(int=7)
ENDS = datetime(2026, 12, 1, tzinfo=UTC)


def window(code: str, limit: str, value: int, wait_ms: int = 36_001) -> Refusal:
    return sentences.denied(Deny(code, limit, value, value, 1, 0, wait_ms), FREE, URL)


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (window("rate_limit_requests", "requests/60", 20), "20 requests per minute. Try again in 37 s."),
        (window("rate_limit_tokens", "tokens/3600/embeddings", 500), "500 tokens per hour. Try again in 37 s."),
        (window("rate_limit_tokens", "input_tokens/86400", 9), "9 input tokens per day. Try again in 37 s."),
        (window("rate_limit_requests", "requests/90", 5), "5 requests per 90 s. Try again in 37 s."),
        (window("rate_limit_cost", "cost/86400", 5_000_000), "0.0050 USD per day. Try again in 37 s."),
        (window("rate_limit_tokens", "tokens/1", 9, wait_ms=0), f"9 tokens per second. Upgrade: {URL}"),
    ],
)
def test_a_window_says_what_it_grants_and_how_long_to_wait(refusal: Refusal, sentence: str) -> None:
    assert refusal.message == f"You have reached your limit of {sentence}"


def test_a_wait_is_in_the_sentence_and_in_the_details_rounded_up() -> None:
    refusal = window("rate_limit_requests", "requests/60", 20, wait_ms=1)
    assert refusal.retry_after_s == 1 and refusal.message.endswith(" Try again in 1 s.")
    assert refusal.details["limit"] == "requests/60" and refusal.details["limit_value"] == 20
    assert (refusal.details["tier"], refusal.details["upgrade_tier"]) == ("free", "pro")


@pytest.mark.parametrize(
    ("deny", "sentence"),
    [
        (
            Deny("model_not_allowed", "large"),
            f"The model large is not part of your plan (Free of charge). Upgrade: {URL}",
        ),
        (Deny("feature_not_allowed", "web_search"), "Using web search is not part of your plan (Free of charge)."),
        (Deny("request_too_large", "max_output", 100, needed=101), "The answer may be at most 100 tokens long"),
        (Deny("request_too_large", "max_context", 100, needed=101), "The conversation may be at most 100 tokens long"),
        (
            Deny("too_many_concurrent", "concurrency", 1, retry_after_ms=1000),
            "You can have 1 answer running at a time;",
        ),
        (
            Deny("too_many_concurrent", "concurrency", 3, retry_after_ms=1000),
            "You can have 3 answers running at a time;",
        ),
        (Deny("idempotency_conflict", "id-1"), "This Idempotency-Key was already used by request id-1."),
        (Deny("limiter_unavailable", retry_after_ms=2000), "Limits cannot be checked right now. Try again in 2 s."),
    ],
)
def test_every_denial_has_its_sentence(deny: Deny, sentence: str) -> None:
    refusal = sentences.denied(deny, FREE, URL)
    assert refusal.message.startswith(sentence) and refusal.code == deny.code


def test_a_denial_nobody_has_words_for_is_a_defect() -> None:
    with pytest.raises(KeyError):
        sentences.denied(Deny("teapot"), FREE, URL)


def test_an_empty_wallet_is_told_what_it_has_and_where_to_fill_it() -> None:
    refusal = sentences.without_money(4_000_000, 12_300_000, FREE, URL, None, None)
    assert refusal.message == f"Your balance of 0.0040 USD does not cover this request. Top up: {URL}"
    details = refusal.details
    assert (refusal.code, details["needed"], details["available"]) == ("insufficient_balance", "0.0123", "0.0040")


def test_a_balance_below_zero_is_told_as_nothing() -> None:
    assert "of 0.0000 USD" in sentences.without_money(-5, 1, FREE, URL, None, None).message


def test_a_used_up_allowance_names_the_day_it_renews() -> None:
    refusal = sentences.without_money(0, 1, FREE, URL, Plan(10**9, "week"), ENDS)
    assert refusal.message == f"Your weekly allowance is used up. It renews on 2026-12-01. Upgrade: {URL}"
    assert (refusal.code, refusal.details["resets_at"]) == ("allowance_exhausted", "2026-12-01T00:00:00Z")


def test_an_allowance_that_is_nearly_used_up_says_what_is_left() -> None:
    message = sentences.without_money(4_000_000, 12_300_000, FREE, URL, Plan(10**9), ENDS).message
    assert message.startswith("Your monthly allowance has 0.0040 USD left, too little for this request. It renews on")


def test_used_up_tokens_are_told_in_tokens_with_the_day_they_come_back() -> None:
    refusal = sentences.without_tokens(Plan(1000), 0, 40, FREE, URL, ENDS)
    said = "Your monthly allowance of 1000 tokens is used up. It renews on 2026-12-01."
    assert (refusal.code, refusal.message) == ("allowance_exhausted", f"{said} Upgrade: {URL}")
    details = refusal.details
    assert (details["tokens_needed"], details["tokens_left"], details["limit_value"]) == (40, 0, 1000)
    few = sentences.without_tokens(Plan(1000), 12, 40, FREE, URL, ENDS)
    assert few.message.startswith("Your monthly allowance of 1000 tokens has 12 left, too few for this request. It")


def test_a_plan_without_tokens_says_so_and_promises_no_day() -> None:
    refusal = sentences.without_tokens(Plan(0), 0, 40, FREE, URL, ENDS)
    assert refusal.message == f"Your plan (Free of charge) includes no tokens. Upgrade: {URL}"
    assert refusal.code == "allowance_exhausted" and "resets_at" not in refusal.details


@pytest.mark.parametrize(
    ("cap", "left", "sentence"),
    [
        (
            Cap("key", KEY, 5 * 10**9, ENDS),
            0,
            "This key's budget of 5.0000 USD is used up. It starts anew on 2026-12-01.",
        ),
        (
            Cap("member", KEY, 10**9, None),
            10**6,
            "Your group's budget for each member of 1.0000 USD has 0.0010 USD left, too little for this request.",
        ),
    ],
)
def test_a_budget_says_whose_it_is_and_when_it_starts_anew(cap: Cap, left: int, sentence: str) -> None:
    refusal = sentences.capped(cap, left, 10**7, FREE)
    assert (refusal.code, refusal.message) == ("allowance_exhausted", sentence)
    assert refusal.details["limit"] == f"{cap.of}_budget" and refusal.details["needed"] == "0.0100"


def test_a_suspended_wallet_is_not_told_to_pay() -> None:
    assert sentences.suspended().code == "account_suspended" and URL not in sentences.suspended().message


def test_a_cut_says_what_ended() -> None:
    assert sentences.cut(FREE, URL, "balance").code == "insufficient_balance"
    cut = sentences.cut(FREE, URL, "allowance")
    assert cut.code == "allowance_exhausted" and cut.message.endswith(f"your allowance is used up. Upgrade: {URL}")
    tokens = sentences.cut(FREE, URL, "tokens")
    assert (tokens.code, tokens.details["limit"]) == ("allowance_exhausted", "allowance")
    assert "your tokens are used up" in tokens.message
    budget = sentences.cut(FREE, URL, "balance", Cap("key", KEY, 1, ENDS))
    assert (budget.code, budget.details["limit"]) == ("allowance_exhausted", "key_budget")
    assert budget.message == "The answer stops here: this key's budget is used up."


def test_what_a_key_does_not_allow_is_said_of_the_key_and_hints_at_no_plan() -> None:
    refused = sentences.not_with_this_key("large", FREE)
    assert (refused.code, refused.message) == ("model_not_allowed", "This key does not allow the model large.")
    window = Window(3, "requests", 60, models=("a/b",), scope=f"key:{KEY}")
    told = sentences.denied(Deny("rate_limit_requests", window.name, 3, 3, 1, 0, 1000), FREE, URL)
    assert told.message == "This key has reached its limit of 3 requests per minute. Try again in 1 s."
    never = sentences.denied(Deny("rate_limit_requests", window.name, 3, 3, 4, 0, 0), FREE, URL)
    assert never.message == "This key has reached its limit of 3 requests per minute."


def test_headers_tell_where_the_caller_stands() -> None:
    standings = [Standing("requests", 10, 3, 1001), Standing("tokens", 40, 20, 2000)]
    assert sentences.standing_headers(standings) == [
        (b"x-ratelimit-limit-requests", b"10"),
        (b"x-ratelimit-remaining-requests", b"3"),
        (b"x-ratelimit-reset-requests", b"2s"),
        (b"x-ratelimit-limit-tokens", b"40"),
        (b"x-ratelimit-remaining-tokens", b"20"),
        (b"x-ratelimit-reset-tokens", b"2s"),
    ]
    assert sentences.standing_headers([]) == []

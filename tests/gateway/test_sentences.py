"""The sentences: plain, with the wait or the bare address in them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway import sentences
from gateway.errors import Refusal
from ledger.store import HoldReply, HoldStatus
from policies.decision import Deny, Standing
from policies.tier import Allowance, Tier

URL = "https://fare.example/pricing"
FREE = Tier("free", title="Free of charge", upgrade_to="pro")
POOR = HoldReply(HoldStatus.POOR, 0, 4_000_000)
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
    refusal = sentences.without_money(POOR, 12_300_000, FREE, URL, None)
    assert refusal.message == f"Your balance of 0.0040 USD does not cover this request. Top up: {URL}"
    details = refusal.details
    assert (refusal.code, details["needed"], details["available"]) == ("insufficient_balance", "0.0123", "0.0040")


def test_a_balance_below_zero_is_told_as_nothing() -> None:
    assert "of 0.0000 USD" in sentences.without_money(HoldReply(HoldStatus.POOR, 0, -5), 1, FREE, URL, None).message


def test_a_used_up_allowance_names_the_day_it_renews() -> None:
    tier = Tier("free", allowance=Allowance(10**9, every="week"))
    nothing = HoldReply(HoldStatus.POOR, 0, 0)
    refusal = sentences.without_money(nothing, 1, tier, URL, ENDS)
    assert refusal.message == f"Your weekly allowance is used up. It renews on 2026-12-01. Upgrade: {URL}"
    assert (refusal.code, refusal.details["resets_at"]) == ("allowance_exhausted", "2026-12-01T00:00:00Z")
    unknown = sentences.without_money(nothing, 1, tier, URL, None)
    assert unknown.message == f"Your weekly allowance is used up. Upgrade: {URL}"
    assert unknown.details["resets_at"] is None


def test_an_allowance_that_is_nearly_used_up_says_what_is_left() -> None:
    tier = Tier("free", allowance=Allowance(10**9))
    message = sentences.without_money(POOR, 12_300_000, tier, URL, None).message
    assert message == f"Your monthly allowance has 0.0040 USD left, too little for this request. Upgrade: {URL}"


@pytest.mark.parametrize("status", [HoldStatus.SUSPENDED, HoldStatus.CLOSED])
def test_a_suspended_wallet_is_not_told_to_pay(status: HoldStatus) -> None:
    refusal = sentences.without_money(HoldReply(status, 0, 0), 1, FREE, URL, None)
    assert refusal.code == "account_suspended" and URL not in refusal.message


def test_a_cut_says_what_ended() -> None:
    assert sentences.cut(FREE, URL).code == "insufficient_balance"
    cut = sentences.cut(Tier("free", allowance=Allowance(1)), URL)
    assert cut.code == "allowance_exhausted" and cut.message.endswith(f"your allowance is used up. Upgrade: {URL}")


def test_headers_tell_of_the_strictest_window_of_each_kind() -> None:
    standings = [
        Standing("requests", 10, 3, 1001),
        Standing("tokens", 100, 50, 10),
        Standing("input_tokens", 40, 20, 2000),
        Standing("cost", 5, 1, 10),
    ]
    assert sentences.standing_headers(standings) == [
        (b"x-ratelimit-limit-requests", b"10"),
        (b"x-ratelimit-remaining-requests", b"3"),
        (b"x-ratelimit-reset-requests", b"2s"),
        (b"x-ratelimit-limit-tokens", b"40"),
        (b"x-ratelimit-remaining-tokens", b"20"),
        (b"x-ratelimit-reset-tokens", b"2s"),
    ]
    assert sentences.standing_headers([]) == []

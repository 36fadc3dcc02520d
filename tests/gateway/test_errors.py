"""What a caller may be told: codes with their statuses, and the two renderings."""

from __future__ import annotations

import msgspec
import pytest

from gateway.errors import KINDS, Refusal, internal, render_event, render_reply

CONTRACT = {
    400: {"invalid_request"},
    401: {"invalid_api_key", "key_expired", "key_revoked", "identity_missing"},
    402: {"insufficient_balance", "allowance_exhausted"},
    403: {"model_not_allowed", "feature_not_allowed", "account_suspended"},
    404: {"model_not_found", "route_not_metered"},
    405: {"method_not_allowed"},
    408: {"request_timeout"},
    409: {"idempotency_conflict"},
    413: {"request_too_large"},
    429: {"rate_limit_requests", "rate_limit_tokens", "rate_limit_cost", "too_many_concurrent"},
    500: {"internal"},
    502: {"upstream_error"},
    503: {"price_missing", "ledger_unavailable", "limiter_unavailable", "draining"},
    504: {"upstream_timeout"},
}


def test_every_code_has_the_status_of_the_contract() -> None:
    by_status: dict[int, set[str]] = {}
    for code, kind in KINDS.items():
        by_status.setdefault(kind.status, set()).add(code)
    assert by_status == CONTRACT


def test_whose_fault_it_was_follows_from_the_status() -> None:
    for code, kind in KINDS.items():
        expected = "downstream" if kind.status < 500 else "upstream" if kind.status in (502, 504) else "ours"
        assert Refusal.of(code, "…").fault == expected, code


def test_a_code_the_contract_does_not_have_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Refusal.of("teapot", "…")


def test_the_body_is_an_openai_error_with_our_details_inside() -> None:
    refusal = Refusal.of("invalid_request", "The field n is wrong.", param="n", limit="x", used=None)
    assert refusal.body("id-1") == {
        "error": {
            "message": "The field n is wrong.",
            "type": "invalid_request_error",
            "code": "invalid_request",
            "param": "n",
            "farebox": {"limit": "x", "request_id": "id-1"},
        }
    }


def test_a_reply_carries_the_wait_in_a_header_too() -> None:
    status, headers, body = render_reply(Refusal.of("draining", "Wait.", retry_after_s=5), "id-1")
    assert (status, dict(headers)) == (
        503,
        {
            b"content-type": b"application/json",
            b"content-length": b"%d" % len(body),
            b"x-request-id": b"id-1",
            b"retry-after": b"5",
        },
    )
    assert b"retry-after" not in dict(render_reply(Refusal.of("internal", "Oh."), "id-1")[1])


def test_an_event_is_one_line_without_choices_and_then_the_end() -> None:
    event = render_event(Refusal.of("upstream_error", "Line one.\nLine two."), "id-1")
    data, done, rest = event.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert b"\n" not in data
    assert msgspec.json.decode(data.removeprefix(b"data: ")).keys() == {"error"}


def test_what_nobody_foresaw_tells_nothing() -> None:
    assert (internal().status, internal().fault, internal().details) == (500, "ours", {})

"""Which headers cross, in either direction."""

from __future__ import annotations

import pytest

from gateway.headers import to_downstream, to_upstream
from gateway.target import Target

TARGET = Target.of("a", "http://h/v1", "sk-ours", {"OpenAI-Beta": "ours", "X-Team": "blue"})
ANTHROPIC = Target.of("c", "http://h/v1", "sk-ours", capabilities=("anthropic",))
BARE = Target.of("b", "http://h/v1")


def test_allowed_headers_pass_in_order_and_ours_follow() -> None:
    asked = [(b"content-type", b"application/json"), (b"accept", b"*/*"), (b"anthropic-version", b"2023-06-01")]
    assert to_upstream(asked, BARE, "id-1") == [
        *asked,
        (b"accept-encoding", b"identity"),
        (b"x-request-id", b"id-1"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        *(b"authorization", b"x-api-key", b"api-key", b"cookie", b"proxy-authorization", b"idempotency-key"),
        *(b"x-openwebui-user-jwt", b"x-openwebui-user-id", b"x-openwebui-user-email", b"x-openwebui-chat-id"),
        *(b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via", b"host", b"user-agent"),
        *(b"connection", b"content-length", b"transfer-encoding", b"te", b"upgrade", b"expect", b"trailer"),
        *(b"accept-encoding", b"x-request-id", b"origin", b"referer", b"openai-organization", b"x-anything-new"),
    ],
)
def test_what_is_not_allowed_stays_outside(name: bytes) -> None:
    assert b"the caller's" not in [value for _, value in to_upstream([(name, b"the caller's")], BARE, "id-1")]


def test_the_credential_is_the_targets() -> None:
    sent = to_upstream([(b"authorization", b"Bearer caller")], TARGET, "id-1")
    assert [value for name, value in sent if name == b"authorization"] == [b"Bearer sk-ours"]


def test_a_target_without_a_key_sends_no_credential() -> None:
    assert b"authorization" not in dict(to_upstream([], BARE, "id-1"))


def test_an_anthropic_target_gets_its_key_and_its_version() -> None:
    sent = dict(to_upstream([(b"authorization", b"Bearer caller"), (b"x-api-key", b"caller")], ANTHROPIC, "id-1"))
    assert (sent[b"x-api-key"], sent[b"anthropic-version"]) == (b"sk-ours", b"2023-06-01")
    assert b"authorization" not in sent


def test_the_version_a_caller_or_an_operator_names_is_kept() -> None:
    asked = [(b"anthropic-version", b"2026-01-01")]
    own = Target.of("c", "http://h", headers={"Anthropic-Version": "2027-01-01"}, capabilities=("anthropic",))
    assert to_upstream(asked, ANTHROPIC, "id-1").count(asked[0]) == 1
    for target, version in ((ANTHROPIC, b"2026-01-01"), (own, b"2027-01-01")):
        sent = to_upstream(asked, target, "id-1")
        assert [value for name, value in sent if name == b"anthropic-version"] == [version]


def test_other_targets_get_no_version() -> None:
    assert b"anthropic-version" not in dict(to_upstream([], TARGET, "id-1"))


def test_the_targets_own_header_replaces_the_callers() -> None:
    sent = to_upstream([(b"openai-beta", b"theirs")], TARGET, "id-1")
    assert [value for name, value in sent if name == b"openai-beta"] == [b"ours"]
    assert (b"x-team", b"blue") in sent


@pytest.mark.parametrize("value", [b"a\r\nx-admin: 1", b"a\nb", b"a\rb", b"a\0b", b"a\x01b", b"a\x7fb"])
def test_a_value_that_would_become_two_headers_or_none_is_dropped(value: bytes) -> None:
    assert b"accept" not in dict(to_upstream([(b"accept", value)], BARE, "id-1"))
    assert to_downstream([(b"x-note", value)], []) == []


def test_lists_may_repeat_but_only_the_first_content_type_passes() -> None:
    asked = [(b"content-type", b"1"), (b"anthropic-beta", b"a"), (b"content-type", b"2"), (b"anthropic-beta", b"b")]
    assert to_upstream(asked, BARE, "id-1")[:3] == [asked[0], asked[1], asked[3]]


def test_ordinary_reply_headers_pass_in_lower_case() -> None:
    reply = [(b"Content-Type", b"text/event-stream"), (b"Retry-After", b"3"), (b"OpenAI-Processing-Ms", b"12")]
    assert to_downstream(reply, [(b"x-request-id", b"id-1")]) == [
        (b"content-type", b"text/event-stream"),
        (b"retry-after", b"3"),
        (b"openai-processing-ms", b"12"),
        (b"x-request-id", b"id-1"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding"),
        *("Upgrade", "Content-Length", "Content-Encoding", "Set-Cookie", "Set-Cookie2", "Date", "Server", "Alt-Svc"),
        *("X-Request-Id", "X-RateLimit-Limit-Requests", "X-Ratelimit-Remaining-Tokens", "WWW-Authenticate"),
        *("Access-Control-Allow-Origin", "Strict-Transport-Security", "OpenAI-Organization", "OpenAI-Project"),
        *("X-Farebox-Cost", "X-Farebox-Balance", "Location", "Refresh", "Clear-Site-Data", "Report-To"),
    ],
)
def test_what_must_not_reach_the_caller_does_not(name: str) -> None:
    assert to_downstream([(name.encode(), b"backend's")], []) == []


def test_headers_named_in_connection_do_not_cross() -> None:
    reply = [(b"Connection", b"close, X-Trace"), (b"connection", b"x-hop"), (b"x-trace", b"1"), (b"X-Hop", b"2")]
    assert to_downstream([*reply, (b"x-stays", b"3")], []) == [(b"x-stays", b"3")]


def test_our_header_replaces_the_backends() -> None:
    assert to_downstream([(b"Cache-Control", b"public")], [(b"cache-control", b"no-store")]) == [
        (b"cache-control", b"no-store")
    ]

"""What an operator may write as a backend's address."""

from __future__ import annotations

import pytest

from gateway.target import Target


def test_a_base_ends_where_a_path_begins() -> None:
    assert Target.of("a", "https://models.example/openai/v1/").base_url == "https://models.example/openai/v1"


def test_headers_become_lower_case_pairs() -> None:
    assert Target.of("a", "http://h", headers={"X-Team": "blue"}).headers == ((b"x-team", b"blue"),)


def test_neither_key_nor_headers_show_in_a_repr() -> None:
    shown = repr(Target.of("a", "http://h", "sk-secret", {"api-key": "other-secret"}))
    assert "secret" not in shown


@pytest.mark.parametrize(
    "base_url",
    [
        *("models.example/v1", "ftp://models.example", "http://", "/v1", "file:///etc/passwd"),
        *("http://user:pass@h/v1", "http://h/v1?key=1", "http://h/v1#x"),
    ],
)
def test_an_address_that_is_not_a_plain_http_base_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="upstream a: base_url"):
        Target.of("a", base_url)


@pytest.mark.parametrize("base_url", ["http://h:99999/v1", "http://h:abc/v1", "http://[::1/v1", "http://h /v1"])
def test_an_address_that_no_request_could_be_sent_to_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError):
        Target.of("a", base_url)


@pytest.mark.parametrize("key", ["Authorization", "content-length", "Host", "Transfer-Encoding", "Cookie"])
def test_a_header_that_the_gateway_writes_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="written by the gateway"):
        Target.of("a", "http://h", headers={key: "x"})


def test_the_key_stands_where_the_upstream_looks_for_it() -> None:
    assert Target.of("a", "http://h").auth == "bearer"
    assert Target.of("a", "http://h", capabilities=("other", "anthropic")).auth == "x-api-key"


def test_an_operator_may_write_an_api_key_header_only_where_the_gateway_does_not() -> None:
    assert Target.of("a", "http://h", headers={"X-Api-Key": "k"}).headers == ((b"x-api-key", b"k"),)
    with pytest.raises(ValueError, match="written by the gateway"):
        Target.of("a", "http://h", headers={"X-Api-Key": "k"}, capabilities=("anthropic",))


@pytest.mark.parametrize(("key", "value"), [("a b", "x"), ("", "x"), ("x:y", "z"), ("x", "a\r\nb: c"), ("x", "é")])
def test_a_header_that_is_not_one_is_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="not a valid HTTP header"):
        Target.of("a", "http://h", headers={key: value})


def test_a_key_that_could_break_out_of_its_header_is_refused_unnamed() -> None:
    with pytest.raises(ValueError) as caught:
        Target.of("a", "http://h", "sk-1\r\nx: y")
    assert "sk-1" not in str(caught.value)

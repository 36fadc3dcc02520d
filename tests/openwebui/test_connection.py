"""Which connection is Farebox's, and how it becomes what it should be without touching another."""

from __future__ import annotations

from typing import Any

import pytest

from openwebui.connection import HEADERS, Connection, connections_of, ours, with_ours, with_usage

URL = "http://farebox:8080/v1"


def document(*connections: tuple[str, str], **configs: dict[str, Any]) -> dict[str, Any]:
    return {
        "ENABLE_OPENAI_API": True,
        "OPENAI_API_BASE_URLS": [url for url, _ in connections],
        "OPENAI_API_KEYS": [key for _, key in connections],
        "OPENAI_API_CONFIGS": {name.removeprefix("c"): config for name, config in configs.items()},
        "SOMETHING_ELSE": 7,
    }


def test_connections_are_read_however_little_is_set() -> None:
    some = document(("http://a/v1", "k"), ("http://b/v1", ""), c0={"prefix_id": "x", "enable": False})
    some["OPENAI_API_KEYS"] = ["k"]
    first, second = connections_of(some)
    assert (first.url, first.key, first.enabled, first.prefix) == ("http://a/v1", "k", False, "x.")
    assert (second.key, second.enabled, second.prefix, second.config) == ("", True, "", {})
    assert first.own_id("x.small") == "small" and second.own_id("small") == "small"
    assert connections_of({}) == [] == connections_of({"OPENAI_API_BASE_URLS": None, "OPENAI_API_CONFIGS": []})


@pytest.mark.parametrize("url", [URL, URL + "/", "HTTP://Farebox:8080/v1"])
def test_ours_is_found_by_its_address(url: str) -> None:
    found = ours(document(("http://a/v1", "k"), (url, "")), URL)
    assert found is not None and found.index == 1


def test_the_address_comes_before_the_key() -> None:
    some = document(("http://old/v1", "ours"), (URL, "theirs"))
    by_key, by_address = ours(some, "", "ours".__eq__), ours(some, URL, "ours".__eq__)
    assert by_key is not None and by_key.index == 0
    assert by_address is not None and by_address.index == 1
    assert ours(some, "http://nobody/v1") is None


def test_one_more_connection_leaves_the_others_as_they_are() -> None:
    before = document(("http://a/v1", "k"), c0={"prefix_id": "a"})
    change = with_ours(before, None, URL, "service")
    first, second = connections_of(change.document)
    assert (first.url, first.key, first.config) == ("http://a/v1", "k", {"prefix_id": "a"})
    assert (second.url, second.key, second.config["headers"]) == (URL, "service", HEADERS)
    assert change.document["SOMETHING_ELSE"] == 7 and change.sentences == (f"a connection to {URL} is added",)
    assert before == document(("http://a/v1", "k"), c0={"prefix_id": "a"})


def test_what_is_right_is_no_change() -> None:
    once = with_ours(document(), None, URL, "service").document
    assert with_ours(once, ours(once, URL), URL, "service").sentences == ()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"enable": False}, "switched on"),
        ({"auth_type": "session"}, "not people's own credentials"),
        ({"headers": {}}, "names the task"),
        ({"headers": {**HEADERS, "X-OpenWebUI-Task": "chat"}}, "names the task"),
    ],
)
def test_each_thing_that_is_wrong_is_said_and_mended(config: dict[str, Any], sentence: str) -> None:
    there = {"enable": True, "auth_type": "bearer", "headers": HEADERS, **config}
    before = document((URL, "service"), c0=there)
    change = with_ours(before, ours(before, URL), URL, "service")
    assert len(change.sentences) == 1 and sentence in change.sentences[0]
    assert with_ours(change.document, ours(change.document, URL), URL, "service").sentences == ()


def test_what_else_is_set_of_the_connection_stays() -> None:
    before = document((URL, "k"), c0={"prefix_id": "fb", "model_ids": ["small"], "headers": {"X-Site": "1"}})
    [after] = connections_of(with_ours(before, ours(before, URL), URL, "k").document)
    assert (after.prefix, after.config["model_ids"]) == ("fb.", ["small"])
    assert after.config["headers"] == {"X-Site": "1", **HEADERS}


def test_no_sentence_holds_a_key() -> None:
    before = document((URL, "before"))
    change = with_ours(before, Connection(0, URL, "before"), URL, "after")
    assert "the connection gets another service key" in change.sentences
    assert not [each for each in change.sentences if "after" in each or "before" in each]


def test_connections_that_are_switched_off_are_switched_on() -> None:
    before = document() | {"ENABLE_OPENAI_API": False}
    assert with_ours(before, None, URL, "k").sentences[0] == "OpenAI connections are switched on"


def test_usage_is_asked_for_beside_what_else_holds_for_models() -> None:
    before = {"DEFAULT_MODELS": "a", "DEFAULT_MODEL_METADATA": {"capabilities": {"vision": False}, "tags": []}}
    change = with_usage(before)
    wanted = {"capabilities": {"vision": False, "usage": True}, "tags": []}
    assert change.document == {"DEFAULT_MODELS": "a", "DEFAULT_MODEL_METADATA": wanted}
    assert len(change.sentences) == 1 and with_usage(change.document).sentences == ()
    assert with_usage({"DEFAULT_MODEL_METADATA": None}).sentences

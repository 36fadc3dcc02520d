"""What is found in an Open WebUI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from farebox.connect_look import look_at_openwebui, look_at_version
from farebox.findings import Found
from openwebui.client import open_webui
from openwebui.connection import connections_of
from tests.openwebui.fake import ADMIN_KEY, FakeOpenWebUI, entry

URL = "http://farebox:8080/v1"


@pytest.fixture
async def there() -> AsyncIterator[FakeOpenWebUI]:
    """One whose first connection leads to Farebox, with nothing to be said against it."""
    async with FakeOpenWebUI().running() as running:
        running.connections |= {"OPENAI_API_BASE_URLS": [URL], "OPENAI_API_KEYS": ["k"]}
        running.ollama = False
        running.embedding["RAG_EMBEDDING_BATCH_SIZE"] = 64
        running.shown = [entry("small", 0), entry("large", 0)]
        everybody = {"principal_type": "user", "principal_id": "*", "permission": "read"}
        running.rows = [{"id": name, "name": name, "access_grants": [everybody]} for name in ("small", "large")]
        yield running


async def looked(there: FakeOpenWebUI, index: int | None = 0) -> list[Found]:
    async with open_webui(there.url, ADMIN_KEY) as client:
        connection = None if index is None else connections_of(there.connections)[index]
        return await look_at_openwebui(client, connection, URL)


async def wrong(there: FakeOpenWebUI, index: int | None = 0) -> list[tuple[str, str]]:
    return [(each.subject, each.verdict) for each in await looked(there, index) if each.verdict != "ok"]


async def test_nothing_is_wrong_where_nothing_is(there: FakeOpenWebUI) -> None:
    assert await wrong(there) == []


@pytest.mark.parametrize(
    ("version", "verdict"), [("0.12.9", "ok"), ("0.11.3", "warning"), ("0.13.0", "note"), ("main", "warning")]
)
async def test_which_version_it_is(there: FakeOpenWebUI, version: str, verdict: str) -> None:
    there.version = version
    async with open_webui(there.url, ADMIN_KEY) as client:
        assert (await look_at_version(client)).verdict == verdict


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("ollama", True, ("ollama", "warning")),
        ("direct", True, ("direct connections", "note")),
        ("embedding", {"RAG_EMBEDDING_ENGINE": "openai", "RAG_EMBEDDING_BATCH_SIZE": 1}, ("embeddings", "warning")),
        ("embedding", {"RAG_EMBEDDING_ENGINE": "", "RAG_EMBEDDING_BATCH_SIZE": 1}, ("embeddings", "note")),
        ("embedding", {"openai_config": {"url": "https://api.openai.com/v1"}}, ("embeddings", "note")),
        ("rows", [], ("model access", "warning")),
        ("shown", [], ("models", "error")),
        ("shown", [entry("other", 1)], ("models", "error")),
    ],
)
async def test_each_thing_that_is_wrong_is_found_alone(
    there: FakeOpenWebUI, field: str, value: Any, found: tuple[str, str]
) -> None:
    setattr(there, field, value)
    assert await wrong(there) == [found]


async def test_some_models_that_nobody_sees_are_a_note(there: FakeOpenWebUI) -> None:
    there.rows.pop()
    assert await wrong(there) == [("model access", "note")]


async def test_whoever_chats_sees_models_whatever_the_api_says(there: FakeOpenWebUI) -> None:
    there.rows = []
    async with open_webui(there.url, ADMIN_KEY) as client:
        found = await look_at_openwebui(client, connections_of(there.connections)[0], URL, people_chat=True)
    assert [each.verdict for each in found if each.subject == "model access"] == ["ok"]


async def test_connections_that_pass_farebox_by_are_told(there: FakeOpenWebUI) -> None:
    there.connections |= {
        "OPENAI_API_BASE_URLS": [URL, "http://else/v1", "http://off/v1", "http://no-key/v1", URL + "/"],
        "OPENAI_API_KEYS": ["k", "k", "k", "", "k"],
        "OPENAI_API_CONFIGS": {"2": {"enable": False}},
    }
    found = [each for each in await looked(there) if each.verdict == "warning"]
    assert [each.subject for each in found] == ["other connections", "connection"]
    assert "http://else/v1" in found[0].says and "number 5" in found[1].says


async def test_a_fixed_list_of_models_is_told(there: FakeOpenWebUI) -> None:
    there.connections["OPENAI_API_CONFIGS"] = {"0": {"model_ids": ["small"], "api_type": "responses"}}
    assert await wrong(there) == [("connection", "note")] * 2


async def test_without_a_connection_the_rest_is_looked_at(there: FakeOpenWebUI) -> None:
    there.ollama = True
    assert await wrong(there, None) == [
        ("connection", "warning"),
        ("other connections", "warning"),
        ("ollama", "warning"),
    ]


async def test_what_cannot_be_looked_at_is_told_and_the_rest_is(there: FakeOpenWebUI) -> None:
    there.broken["/api/v1/retrieval/embedding"] = 500
    there.ollama = True
    assert await wrong(there) == [("embeddings", "warning"), ("ollama", "warning")]

"""What is read of Open WebUI's documents, however much more is in them."""

from __future__ import annotations

import msgspec

from openwebui.shapes import Embedding, People, Row, ShownList, Webhook


def test_what_is_not_known_is_not_looked_at() -> None:
    page = b'{"users": [{"id": "u", "role": "pending", "oauth": null, "group_ids": ["g"], "more": {}}], "total": 31}'
    people = msgspec.json.decode(page, type=People)
    assert (people.total, people.users[0].role, people.users[0].group_ids) == (31, "pending", ("g",))


def test_names_of_their_own_are_found() -> None:
    embedding = msgspec.json.decode(b'{"RAG_EMBEDDING_ENGINE": "", "RAG_EMBEDDING_BATCH_SIZE": 64}', type=Embedding)
    assert (embedding.rag_embedding_engine, embedding.rag_embedding_batch_size) == ("", 64)
    assert embedding.openai_config.url == ""
    elsewhere = msgspec.json.decode(b'{"openai_config": {"url": "https://a.example/v1", "key": "k"}}', type=Embedding)
    assert elsewhere.openai_config.url == "https://a.example/v1"
    listed = msgspec.json.decode(b'{"data": [{"id": "m", "urlIdx": 2, "info": null}, {"id": "n"}]}', type=ShownList)
    assert [each.url_index for each in listed.data] == [2, None]


def test_grants_of_a_model_may_be_missing() -> None:
    row = msgspec.json.decode(b'{"id": "m", "name": "M", "access_grants": null, "base_model_id": null}', type=Row)
    assert row.access_grants is None and row.is_active
    assert msgspec.json.decode(b'{"id": "w", "targets": null, "events": ["*"]}', type=Webhook).events == ("*",)

"""How a refusal is said on each route."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.envelope import AnthropicEnvelope, ChatEnvelope, CompletionEnvelope, ResponsesEnvelope, Spent, event_chunk
from gateway.errors import KINDS, Refusal
from ledger.ids import uuid7

ENVELOPES = [ChatEnvelope(), CompletionEnvelope(), ResponsesEnvelope(), AnthropicEnvelope()]
REFUSAL = Refusal.of("insufficient_balance", "No money. Top up: https://example.com", limit="balance", retry_after_s=3)


def events(stream: bytes) -> list[tuple[str, Any]]:
    """Each event's name and data, as a client reads them."""
    found = []
    for block in stream.removesuffix(b"\n\n").split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        data = lines[b"data"]
        found.append((lines.get(b"event", b"").decode(), data.decode() if data == b"[DONE]" else json.loads(data)))
    return found


@pytest.mark.parametrize("envelope", ENVELOPES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("code", KINDS)
def test_every_code_is_said_everywhere_with_its_status_and_its_id(envelope: ChatEnvelope, code: str) -> None:
    refusal = Refusal.of(code, "No.", retry_after_s=3)
    status, headers, body = envelope.reply(refusal, "id-1")
    named = dict(headers)
    assert (status, named[b"content-type"], named[b"x-request-id"]) == (
        KINDS[code].status,
        b"application/json",
        b"id-1",
    )
    assert (named[b"content-length"], named[b"retry-after"]) == (b"%d" % len(body), b"3")
    error = json.loads(body)["error"]
    assert (error["code"], error["message"], error["farebox"]["request_id"]) == (code, "No.", "id-1")
    said = [data["error"] for _, data in events(envelope.event(refusal, "id-1")) if data != "[DONE]"]
    assert [each["code"] for each in said] == [code]


def test_a_chats_cut_ends_the_choice_and_says_why() -> None:
    (_, chunk), (_, error), (_, done) = events(ChatEnvelope().cut("m", REFUSAL, str(uuid7())))
    assert (chunk["object"], chunk["model"], chunk["choices"][0]["finish_reason"]) == (
        "chat.completion.chunk",
        "m",
        "length",
    )
    assert abs(chunk["created"] - datetime.now(UTC).timestamp()) < 3600
    assert (error["error"]["code"], done) == ("insufficient_balance", "[DONE]")


@pytest.mark.parametrize("envelope", ENVELOPES, ids=lambda each: type(each).__name__)
def test_a_cut_answer_says_what_it_came_to_by_the_names_of_its_route(envelope: ChatEnvelope) -> None:
    _, ended = events(envelope.cut("m", REFUSAL, "id-1", Spent(8, 30, {"cost": "0.0010", "balance": "0.0000"})))[0]
    names = {"ResponsesEnvelope": ("input_tokens", "output_tokens")}.get(
        type(envelope).__name__, ("prompt_tokens", "completion_tokens")
    )
    whole = {names[0]: 8, names[1]: 30, "total_tokens": 38, "cost": "0.0010", "balance": "0.0000"}
    of_anthropic = {"output_tokens": 30, "cost": "0.0010", "balance": "0.0000"}
    said = ended.get("response", ended)["usage"]
    assert said == (of_anthropic if isinstance(envelope, AnthropicEnvelope) else whole)


def test_a_chat_that_did_not_ask_for_usage_gets_none_with_its_cut() -> None:
    assert "usage" not in events(ChatEnvelope().cut("m", REFUSAL, "id-1"))[0][1]


def test_an_event_for_the_page_stands_in_a_chunk_that_says_nothing_else() -> None:
    request_id = str(uuid7())
    chunk = event_chunk("small", {"type": "status", "data": {"description": "a\nb"}}, request_id)
    assert chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") and chunk.count(b"\n") == 2
    said = json.loads(chunk[6:])
    assert (said["choices"], said["object"], said["model"]) == ([], "chat.completion.chunk", "small")
    assert said["id"].endswith(request_id) and said["event"]["data"] == {"description": "a\nb"}


def test_an_id_that_is_none_of_ours_has_no_time() -> None:
    assert events(ChatEnvelope().cut("m", REFUSAL, "id-1"))[0][1]["created"] == 0


def test_a_completions_cut_is_a_completion() -> None:
    chunk = events(CompletionEnvelope().cut("m", REFUSAL, "id-1"))[0][1]
    assert (chunk["object"], chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) == (
        "text_completion",
        "",
        "length",
    )


def test_a_responses_error_is_read_by_its_type_and_by_its_object() -> None:
    (name, said), (_, done) = events(ResponsesEnvelope().event(REFUSAL, "id-1"))
    assert (name, said["type"], said["code"], said["param"]) == ("error", "error", "insufficient_balance", None)
    assert (said["message"], done) == (said["error"]["message"], "[DONE]")


def test_a_responses_cut_is_incomplete() -> None:
    (name, said), (second, _), _ = events(ResponsesEnvelope().cut("m", REFUSAL, "id-1"))
    assert (name, said["type"], second) == ("response.incomplete", "response.incomplete", "error")
    assert (said["response"]["status"], said["response"]["model"]) == ("incomplete", "m")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_request", "invalid_request_error"),
        ("idempotency_conflict", "invalid_request_error"),
        ("invalid_api_key", "authentication_error"),
        ("insufficient_balance", "billing_error"),
        ("model_not_allowed", "permission_error"),
        ("model_not_found", "not_found_error"),
        ("request_too_large", "request_too_large"),
        ("rate_limit_tokens", "rate_limit_error"),
        ("upstream_error", "api_error"),
        ("draining", "overloaded_error"),
        ("upstream_timeout", "timeout_error"),
    ],
)
def test_anthropics_clients_see_a_type_they_know(code: str, kind: str) -> None:
    _, headers, body = AnthropicEnvelope().reply(Refusal.of(code, "No."), "id-1")
    said = json.loads(body)
    assert (said["type"], said["error"]["type"], said["request_id"]) == ("error", kind, "id-1")
    assert dict(headers)[b"request-id"] == b"id-1"


def test_anthropics_error_event_is_named_and_ends_the_stream() -> None:
    assert [name for name, _ in events(AnthropicEnvelope().event(REFUSAL, "id-1"))] == ["error"]
    (name, delta), (second, error) = events(AnthropicEnvelope().cut("m", REFUSAL, "id-1"))
    assert (name, delta["delta"]["stop_reason"], second) == ("message_delta", "max_tokens", "error")
    assert error["error"]["farebox"]["limit"] == "balance"

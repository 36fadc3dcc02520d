"""How a refusal is said on each route: as the reply, inside a stream, and where the money cut an answer in its middle.

Pure. The object is ``errors.py``'s everywhere; what differs is the frame that a route's own clients look for. A cut
ends as an answer ends that has reached its length, and then says why: what was written is kept, the reason is shown.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from gateway.errors import Refusal, render_event, render_reply

Headers = list[tuple[bytes, bytes]]
DONE = b"data: [DONE]\n\n"

# https://docs.anthropic.com/en/api/errors: the types its clients know, by status.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Spent(NamedTuple):
    """What an answer came to that the money ended: its tokens, and the members that say what they cost and what is
    left."""

    input_tokens: int
    output_tokens: int
    told: dict[str, Any]


class ChatEnvelope:
    """Chat completions, and every route that has no words of its own."""

    def reply(self, refusal: Refusal, request_id: str) -> tuple[int, Headers, bytes]:
        """Status, headers and body before the first byte."""
        return render_reply(refusal, request_id)

    def event(self, refusal: Refusal, request_id: str) -> bytes:
        """The end of a stream that failed."""
        return render_event(refusal, request_id)

    def cut(self, model: str, refusal: Refusal, request_id: str, spent: Spent | None = None) -> bytes:
        """The end of an answer that the money ended; ``spent`` for a caller who asked for usage."""
        choice = {"index": 0, "delta": {}, "finish_reason": "length"}
        chunk = _head("chatcmpl-", "chat.completion.chunk", model, request_id) | {"choices": [choice]} | _usage(spent)
        return _data(chunk) + self.event(refusal, request_id)


class CompletionEnvelope(ChatEnvelope):
    """Text completions."""

    def cut(self, model: str, refusal: Refusal, request_id: str, spent: Spent | None = None) -> bytes:
        """The end of an answer that the money ended; ``spent`` for a caller who asked for usage."""
        choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}
        chunk = _head("cmpl-", "text_completion", model, request_id) | {"choices": [choice]} | _usage(spent)
        return _data(chunk) + self.event(refusal, request_id)


class ResponsesEnvelope(ChatEnvelope):
    """OpenAI Responses: events have names. An error stands at the top level for those who read the event's type, and as
    the object of every other route for those who look for `error`."""

    def event(self, refusal: Refusal, request_id: str) -> bytes:
        """The end of a stream that failed."""
        said = refusal.body(request_id)
        top = {name: said["error"][name] for name in ("code", "message", "param")}
        return _named({"type": "error", "sequence_number": 0, **top, **said}) + DONE

    def cut(self, model: str, refusal: Refusal, request_id: str, spent: Spent | None = None) -> bytes:
        """The end of an answer that the money ended."""
        response = {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": _created(request_id),
            "status": "incomplete",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"},
            "model": model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None if spent is None else _counts(spent, "input_tokens", "output_tokens"),
        }
        incomplete = {"type": "response.incomplete", "sequence_number": 0, "response": response}
        return _named(incomplete) + self.event(refusal, request_id)


class AnthropicEnvelope:
    """Anthropic Messages: an object of type `error`, whose own type its clients know; our code stands beside it."""

    def reply(self, refusal: Refusal, request_id: str) -> tuple[int, Headers, bytes]:
        """Status, headers and body before the first byte. `request-id` is where Anthropic's clients look."""
        status, headers, _ = render_reply(refusal, request_id)
        body = msgspec.json.encode(_anthropic(refusal, request_id))
        own = [(name, b"%d" % len(body) if name == b"content-length" else value) for name, value in headers]
        return status, [*own, (b"request-id", request_id.encode())], body

    def event(self, refusal: Refusal, request_id: str) -> bytes:
        """The end of a stream that failed."""
        return _named(_anthropic(refusal, request_id))

    def cut(self, model: str, refusal: Refusal, request_id: str, spent: Spent | None = None) -> bytes:
        """The end of an answer that the money ended. Clients demand a usage here."""
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        usage = {"output_tokens": spent.output_tokens, **spent.told} if spent else {"output_tokens": 0}
        ended = {"type": "message_delta", "delta": delta, "usage": usage}
        return _named(ended) + self.event(refusal, request_id)


def event_chunk(model: str, event: dict[str, Any], request_id: str) -> bytes:
    """A chunk of a chat that says nothing of the answer, with an event for Open WebUI's page beside it: other clients
    find a chunk without choices, as a usage chunk is."""
    return _data(_head("chatcmpl-", "chat.completion.chunk", model, request_id) | {"choices": [], "event": event})


def _anthropic(refusal: Refusal, request_id: str) -> dict[str, Any]:
    said = refusal.body(request_id)["error"]
    kind = _ANTHROPIC_TYPES.get(refusal.status, "invalid_request_error")
    error = {"type": kind, "message": said["message"], "code": said["code"], "farebox": said["farebox"]}
    return {"type": "error", "error": error, "request_id": request_id}


def _head(prefix: str, kind: str, model: str, request_id: str) -> dict[str, Any]:
    return {"id": prefix + request_id, "object": kind, "created": _created(request_id), "model": model}


def _usage(spent: Spent | None) -> dict[str, Any]:
    return {} if spent is None else {"usage": _counts(spent, "prompt_tokens", "completion_tokens")}


def _counts(spent: Spent, tokens_in: str, tokens_out: str) -> dict[str, Any]:
    """A usage object, by the names its route has for tokens."""
    counts = {tokens_in: spent.input_tokens, tokens_out: spent.output_tokens}
    return {**counts, "total_tokens": spent.input_tokens + spent.output_tokens, **spent.told}


def _created(request_id: str) -> int:
    """Unix seconds; a request's id begins with the milliseconds at which it was made (RFC 9562 §5.7)."""
    try:
        return (UUID(request_id).int >> 80) // 1000
    except ValueError:
        return 0


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _named(value: dict[str, Any]) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\n" + _data(value)

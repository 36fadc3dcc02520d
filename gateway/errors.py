"""What a caller may be told, and its two renderings.

One tree: every refusal has a code of the contract, and the code fixes its status, its OpenAI error type and whose fault
it was (``downstream``, ``ours``, ``upstream``). Before the first byte it is an HTTP reply, afterwards one event in the
stream; both carry the same object. An error the code did not foresee is ``internal``: the caller gets an id, the log
the rest.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from gateway.language import FALLBACK, Sentence, language_of, sentence

Fault = Literal["downstream", "ours", "upstream"]


class Kind(NamedTuple):
    """What a code fixes: HTTP status, the OpenAI error type, and whose fault it was."""

    status: int
    type: str
    fault: Fault


KINDS: dict[str, Kind] = {
    "invalid_request": Kind(400, "invalid_request_error", "downstream"),
    "invalid_api_key": Kind(401, "authentication_error", "downstream"),
    "key_expired": Kind(401, "authentication_error", "downstream"),
    "key_revoked": Kind(401, "authentication_error", "downstream"),
    "identity_missing": Kind(401, "authentication_error", "downstream"),
    "insufficient_balance": Kind(402, "insufficient_quota", "downstream"),
    "allowance_exhausted": Kind(402, "insufficient_quota", "downstream"),
    "model_not_allowed": Kind(403, "permission_error", "downstream"),
    "feature_not_allowed": Kind(403, "permission_error", "downstream"),
    "account_suspended": Kind(403, "permission_error", "downstream"),
    "model_not_found": Kind(404, "invalid_request_error", "downstream"),
    "route_not_metered": Kind(404, "invalid_request_error", "downstream"),
    "method_not_allowed": Kind(405, "invalid_request_error", "downstream"),
    "request_timeout": Kind(408, "invalid_request_error", "downstream"),
    "idempotency_conflict": Kind(409, "invalid_request_error", "downstream"),
    "request_too_large": Kind(413, "invalid_request_error", "downstream"),
    "rate_limit_requests": Kind(429, "rate_limit_error", "downstream"),
    "rate_limit_tokens": Kind(429, "rate_limit_error", "downstream"),
    "rate_limit_cost": Kind(429, "rate_limit_error", "downstream"),
    "too_many_concurrent": Kind(429, "rate_limit_error", "downstream"),
    "internal": Kind(500, "api_error", "ours"),
    "upstream_error": Kind(502, "api_error", "upstream"),
    "price_missing": Kind(503, "api_error", "ours"),
    "ledger_unavailable": Kind(503, "api_error", "ours"),
    "limiter_unavailable": Kind(503, "api_error", "ours"),
    "draining": Kind(503, "api_error", "ours"),
    "upstream_timeout": Kind(504, "api_error", "upstream"),
}


class Refusal(Exception):
    """A call that ends with a code instead of an answer.

    ``said`` is one plain sentence for a person: no markup, no line break, nothing secret. Where a person in a chat may
    meet it, it is a ``Sentence``, put into that person's words where it leaves (``voice.py``); what is for the author
    of a program or for the operator is English text. ``details`` becomes the ``farebox`` member of the error object
    (money as decimal USD strings, instants as RFC 3339); ``param`` names the field of the request that was wrong;
    ``retry_after_s`` also becomes the ``retry-after`` header. ``language`` is that of a person who is known though the
    call has no caller yet.
    """

    def __init__(
        self, code: str, said: Sentence | str, *, param: str | None = None, language: str = "", **details: Any
    ) -> None:
        super().__init__(code)
        self.code = code
        self.said = said
        self.param = param
        self.language = language
        self.details = details
        self._message = said if isinstance(said, str) else ""

    @classmethod
    def of(
        cls, code: str, said: Sentence | str, *, param: str | None = None, language: str = "", **details: Any
    ) -> Refusal:
        """A refusal of this code. Raises KeyError for a code the contract does not have."""
        KINDS[code]
        return cls(code, said, param=param, language=language, **details)

    @property
    def message(self) -> str:
        """The sentence in the words it was put into; in English where nobody has done so."""
        if not self._message and isinstance(self.said, Sentence):
            return language_of(FALLBACK).say(self.said)
        return self._message

    def put(self, message: str) -> None:
        """Put the sentence into words."""
        self._message = message

    def __str__(self) -> str:
        return self.message

    @property
    def status(self) -> int:
        return KINDS[self.code].status

    @property
    def fault(self) -> Fault:
        return KINDS[self.code].fault

    @property
    def retry_after_s(self) -> int | None:
        return self.details.get("retry_after_s")

    def body(self, request_id: str) -> dict[str, Any]:
        """The error object, as it stands in a reply and in a stream."""
        known = {name: value for name, value in self.details.items() if value is not None}
        return {
            "error": {
                "message": self.message,
                "type": KINDS[self.code].type,
                "code": self.code,
                "param": self.param,
                "farebox": {**known, "request_id": request_id},
            }
        }


def internal() -> Refusal:
    """The refusal for what no code foresaw. The log has the rest, under the request's id."""
    return Refusal.of("internal", sentence("internal"))


def render_reply(refusal: Refusal, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of a refusal before the first byte. Always ``application/json``: a client that sees
    ``text/event-stream`` on a 4xx shows the raw event to its user."""
    body = msgspec.json.encode(refusal.body(request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
    ]
    if (wait := refusal.retry_after_s) is not None:
        headers.append((b"retry-after", b"%d" % wait))
    return refusal.status, headers, body


def render_event(refusal: Refusal, request_id: str) -> bytes:
    """The same object after the first byte: one event without ``choices``, then the end of the stream."""
    return b"data: " + msgspec.json.encode(refusal.body(request_id)) + b"\n\ndata: [DONE]\n\n"

"""One event of a chat or completion stream, or one whole reply, as a typed value. Pure.

Only the fields that money or safety depend on are read; the rest is skipped unparsed. Two readers stand behind
`decode`: msgspec for the JSON every backend sends, and the standard library for what a forgiving caller might still
accept (NaN, lone surrogates, bytes that are not UTF-8, fields of the wrong type), so that nothing a caller can read is
unread here.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import UNSET, Struct

Raw = msgspec.Raw
GUARDED_KEYS = ("event", "selected_model_id")  # Open WebUI acts on these, up to running JavaScript for the user


class Function(Struct, gc=False):
    """The function part of a tool call, whole or a piece; some backends send arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCall(Struct, gc=False):
    """One tool call, whole or a piece."""

    function: Function | None = None


class Delta(Struct, gc=False):
    """What one chunk adds to a message, or the whole message of a reply. `content` may be a list of typed parts."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None


class Choice(Struct, gc=False):
    """One alternative. `message` replaces `delta` in a whole reply; `usage` stands here with some backends."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None


class Vendor(Struct, gc=False):
    """A vendor's own top-level object that may carry usage."""

    usage: dict[str, Any] | None = None


class Chunk(Struct, gc=False):
    """One event or reply. `event` and `selected_model_id` are UNSET when the key is absent, whatever their value."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: Vendor | None = None
    service_tier: str | None = None
    error: Any = None
    event: Any = UNSET
    selected_model_id: Any = UNSET

    @property
    def guarded(self) -> bool:
        """Whether a top-level key is present that must not reach the caller."""
        return self.event is not UNSET or self.selected_model_id is not UNSET

    @property
    def final(self) -> bool:
        """Whether this chunk carries usage and nothing of the answer follows it."""
        return self.usage is not None and (not self.choices or any(choice.finish_reason for choice in self.choices))


fast_decode = msgspec.json.Decoder(Chunk).decode
_fields = msgspec.json.Decoder(dict[str, Raw])


def decode(payload: bytes) -> Chunk | None:
    """Read one JSON payload; None when it is no JSON at all, an empty chunk when it is JSON but no object.

    Raises RecursionError when it is nested deeper than can be looked into.
    """
    try:
        return fast_decode(payload)
    except (ValueError, RecursionError):
        return decode_text(payload.decode("utf-8", "replace"))


def decode_text(text: str) -> Chunk | None:
    """The same for text a caller has decoded, and as forgiving as Python's own reader. Raises RecursionError."""
    try:
        value = json.loads(text.strip())
    except ValueError:
        return None
    return _chunk(value) if isinstance(value, dict) else Chunk()


def without_guarded_keys(payload: bytes) -> bytes | None:
    """Return the object without its guarded keys, every other value byte for byte; None if it is not strict JSON."""
    try:
        fields = _fields.decode(payload)
    except (ValueError, RecursionError):
        return None
    return msgspec.json.encode({key: value for key, value in fields.items() if key not in GUARDED_KEYS})


def with_usage_members(payload: bytes, members: dict[str, Any], within: str | None = None) -> bytes | None:
    """Return the object with `members` at the end of its `usage`, all else byte for byte.

    The `usage` is the top-level one, or that of the top-level object named `within`. None if the payload is not strict
    JSON or has no such object.
    """
    try:
        fields = _fields.decode(payload)
        inner = bytes(fields["usage" if within is None else within])
        changed = _appended(inner, members) if within is None else with_usage_members(inner, members)
    except (ValueError, RecursionError, KeyError):
        return None
    return None if changed is None else _exchanged(payload, fields, within or "usage", changed)


def _exchanged(payload: bytes, fields: dict[str, Raw], name: str, value: bytes) -> bytes | None:
    """The payload with the top-level value of that name exchanged.

    The same bytes may occur more than once (a vendor's copy), so a place is accepted only when reading the result back
    shows that the top-level one changed and nothing else did.
    """
    old = bytes(fields[name])
    wanted = {**fields, name: Raw(value)}
    at = payload.rfind(old)
    for _ in range(_PLACES_MAX):
        changed = payload[:at] + value + payload[at + len(old) :]
        if at < 0 or _reads_as(changed, wanted):
            break
        at = payload.rfind(old, 0, at + len(old) - 1)
    return changed if at >= 0 else None


_PLACES_MAX = 8


def _reads_as(payload: bytes, fields: dict[str, Raw]) -> bool:
    try:
        return _fields.decode(payload) == fields
    except (ValueError, RecursionError):
        return False


def _appended(usage: bytes, members: dict[str, Any]) -> bytes:
    fields = _fields.decode(usage)
    added = msgspec.json.encode(members)
    if not fields:
        return added
    if not members.keys() & fields.keys():
        return usage[:-1] + b"," + added[1:]
    # The backend's own `cost` would stand twice: a key that means two things is worse than a re-encoded object.
    kept = {key: value for key, value in fields.items() if key not in members}
    return msgspec.json.encode({**kept, **members})


def _chunk(value: dict[str, Any]) -> Chunk:
    choices = value.get("choices")
    return Chunk(
        choices=[_choice(each) for each in choices if isinstance(each, dict)] if isinstance(choices, list) else None,
        usage=_object(value.get("usage")),
        x_groq=Vendor(_object((_object(value.get("x_groq")) or {}).get("usage"))),
        service_tier=_text(value.get("service_tier")),
        error=value.get("error"),
        event=value.get("event", UNSET),
        selected_model_id=value.get("selected_model_id", UNSET),
    )


def _choice(value: dict[str, Any]) -> Choice:
    delta, message = _object(value.get("delta")), _object(value.get("message"))
    return Choice(
        delta=None if delta is None else _delta(delta),
        message=None if message is None else _delta(message),
        text=_text(value.get("text")),
        finish_reason=_text(value.get("finish_reason")),
        usage=_object(value.get("usage")),
    )


def _delta(value: dict[str, Any]) -> Delta:
    content, calls, call = value.get("content"), value.get("tool_calls"), _object(value.get("function_call"))
    return Delta(
        content=content if isinstance(content, str | list) else None,
        reasoning_content=_text(value.get("reasoning_content")),
        reasoning=_text(value.get("reasoning")),
        refusal=_text(value.get("refusal")),
        tool_calls=[_call(each) for each in calls if isinstance(each, dict)] if isinstance(calls, list) else None,
        function_call=None if call is None else _function(call),
    )


def _call(value: dict[str, Any]) -> ToolCall:
    function = _object(value.get("function"))
    return ToolCall(None if function is None else _function(function))


def _function(value: dict[str, Any]) -> Function:
    arguments = value.get("arguments")
    return Function(_text(value.get("name")), arguments if isinstance(arguments, str | dict) else None)


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

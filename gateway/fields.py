"""The top-level fields of a JSON request body, read one by one and refused by name. Pure.

A body is split once; the fields' bytes stay as they came, so that what goes upstream is what was read here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

Raw = msgspec.Raw
Fields = dict[str, Raw]
T = TypeVar("T")

COLONS_MAX = 500_000  # no more top-level keys than this can be in a body: bounds the memory of splitting it
NULL = Raw(b"null")
_split = msgspec.json.Decoder(Fields)
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}
encode = msgspec.json.Encoder().encode


class BadRequest(ValueError):
    """The body cannot be used. The message is one sentence for the caller; `param` names the field, or is None."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def split(body: bytes) -> Fields:
    """The fields of a JSON object. Raises BadRequest."""
    if body.count(b":") > COLONS_MAX:
        raise BadRequest("The request body has too many fields.")
    try:
        return _split.decode(body)
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.") from None
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.") from None
    except ValueError:  # malformed JSON and bytes that are not UTF-8
        raise BadRequest("The request body is not valid JSON.") from None


def joined(body: bytes, fields: Fields) -> bytes:
    """The object of these fields; the very `body` where it says just that."""
    changed = encode(fields)
    return body if changed == body else changed


def read(fields: Fields, name: str, kind: type[T], described: str) -> T | None:
    """The field's value, None when it is absent or null. Raises BadRequest when it is something else."""
    raw = fields.get(name)
    if raw is None or raw == NULL:
        return None
    try:
        decoder = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
        value: T = decoder.decode(raw)
        return value
    except (ValueError, RecursionError):
        raise BadRequest(f"The field {name} must be {described}.", name) from None


def model_of(fields: Fields) -> str:
    """The model's name. Raises BadRequest where there is none."""
    model = read(fields, "model", str, "a text")
    if not model:
        raise BadRequest("The field model is missing: name the model to use.", "model")
    return model


def whole(fields: Fields, name: str, most: int, least: int = 1) -> int | None:
    """A whole number within bounds, None when absent or null. Raises BadRequest."""
    number = read(fields, name, int, "a whole number")
    if number is not None and not least <= number <= most:
        raise BadRequest(f"The field {name} must be a whole number from {least} to {most}.", name)
    return number


def list_of(fields: Fields, name: str, *, required: bool = False) -> bytes:
    """The bytes of a list; empty when absent or null. Raises BadRequest when it is something else, or required."""
    raw = bytes(fields.get(name, NULL))
    if raw[:1] == b"[":
        return raw
    if not required and raw == b"null":
        return b""
    raise BadRequest(f"The field {name} must be a list.", name)


def is_set(fields: Fields, name: str) -> bool:
    """Whether the field is there and not null."""
    return name in fields and fields[name] != NULL


def items(raw: bytes | Raw, decoder: msgspec.json.Decoder[list[T]], name: str) -> list[T]:
    """The list's objects. Raises BadRequest when it holds anything else."""
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError):
        raise BadRequest(f"The field {name} must be a list of objects.", name) from None


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


def usage_wanted(fields: Fields) -> bool:
    """Whether `stream_options` asks for usage. Raises BadRequest."""
    options = read(fields, "stream_options", _StreamOptions, "an object")
    return bool(options and options.include_usage)


def usage_asked(options: Raw | None) -> Raw:
    """The same `stream_options`, asking for usage."""
    given: dict[str, Any] = {}
    if options is not None and options != NULL:
        given = dict(_split.decode(options))
    return Raw(encode({**given, "include_usage": True}))

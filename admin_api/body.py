"""The body of a request: read within bounds, and text that can be stored, before a route sees any of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.datastructures import Headers

from admin_api.problems import Problem, Wrong, pointer, unprocessable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

BODY_MAX = 1024 * 1024
_BODY_S = 30.0
_JSON_TYPES = ("application/json", "application/merge-patch+json")
_DEPTH_MAX = 40


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """The whole body, JSON or nothing. Raises Problem: 400, 408, 413, 415, and 422 for text no database can store."""
    if int(headers.get("content-length") or 0) > BODY_MAX:
        raise _too_large()
    try:
        async with asyncio.timeout(_BODY_S):
            body = await _read(receive)
    except TimeoutError:
        raise Problem(408, "Too slow", f"The body did not arrive within {_BODY_S:.0f} s.") from None
    if body:
        _is_json(headers.get("content-type", ""))
        _storable(body)
    return body


async def _read(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "Malformed", "The body ended early.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_MAX:
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large() -> Problem:
    return Problem(413, "Too large", f"A body may have {BODY_MAX} bytes.")


def _is_json(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() not in _JSON_TYPES:
        raise Problem(415, "Not JSON", f"Send the body as {_JSON_TYPES[0]}.", headers={"accept": _JSON_TYPES[0]})


def _storable(body: bytes) -> None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "Malformed", "The body is not JSON.") from None
    _look_into(document, ())


def _look_into(value: Any, path: tuple[str | int, ...]) -> None:
    if len(path) > _DEPTH_MAX:
        raise unprocessable("The body is nested too deeply.")
    if isinstance(value, str) and not is_text(value):
        where = pointer(path)
        raise unprocessable(f"{where} holds a NUL character.", Wrong("must not hold a NUL character", where))
    if isinstance(value, dict):
        for name, each in value.items():
            if not is_text(name):
                raise unprocessable("A field's name holds a NUL character.")
            _look_into(each, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _look_into(each, (*path, index))


def is_text(text: str) -> bool:
    """Whether a database can store it."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)

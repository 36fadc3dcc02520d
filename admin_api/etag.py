"""Versions as ETags, so that nobody overwrites what they have not seen.

A stale write is answered with 409, not 412: `docs/adr/0018-stale-writes.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header, Response

from admin_api.problems import Problem, stale
from admin_api.wire import rfc3339

_IF_MATCH = Header(alias="If-Match", description="The ETag you read, in quotes.", examples=['"3"'], max_length=100)
_VERSION_MAX = 2**31


def etag(version: int | datetime) -> str:
    """A version's number, or the instant of its last change -> the header's value."""
    return f'"{rfc3339(version) if isinstance(version, datetime) else version}"'


def show(response: Response, version: int | datetime) -> None:
    """Put the ETag on this reply."""
    response.headers["etag"] = etag(version)


def _text(header: str) -> str:
    return header.strip().removeprefix("W/").strip('"')


def _number(header: str) -> int:
    """Raises Problem (409) for what is no version: then it is not the one that is there."""
    text = _text(header)
    if not (text.isascii() and text.isdigit() and int(text) < _VERSION_MAX):
        raise stale()
    return int(text)


def _required(if_match: Annotated[str | None, _IF_MATCH] = None) -> int:
    if if_match is None:
        detail = "Send the ETag you read in If-Match, so that nobody's change is overwritten unseen."
        raise Problem(428, "If-Match is missing", detail)
    return _number(if_match)


def _instant(if_match: Annotated[str | None, _IF_MATCH] = None) -> datetime | None:
    if if_match is None:
        return None
    try:
        return datetime.fromisoformat(_text(if_match)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise stale() from None


IfMatch = Annotated[int, Depends(_required)]
"""The version the caller read; 428 where it does not say."""

IfMatchInstant = Annotated[datetime | None, Depends(_instant)]
"""When what the caller read had last changed, where it says."""

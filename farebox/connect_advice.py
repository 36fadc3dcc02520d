"""What an operator still has to set in two environments, as lines to paste. Pure but for the secret it offers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from farebox.findings import Found

_SECRET_BYTES = 32
_FORWARD = "ENABLE_FORWARD_USER_INFO_HEADERS"
_THEIRS = "FORWARD_USER_INFO_HEADER_JWT_SECRET"
_OURS = "FAREBOX_OPENWEBUI__JWT_SECRET"


class Arrived(Protocol):
    """Whether users arrive as they should; None: it is not known."""

    @property
    def arrive(self) -> bool | None: ...


class Environment(Struct, frozen=True):
    """Lines for each side. Each takes a restart there."""

    openwebui: list[str] = []
    farebox: list[str] = []

    def lines(self) -> Iterator[str]:
        """As they are printed."""
        for whose, lines in (("Open WebUI", self.openwebui), ("Farebox", self.farebox)):
            if lines:
                yield f"Set in the environment of {whose}, and start it again:"
                yield from (f"    {line}" for line in lines)


def environment(arrived: Arrived, found: Sequence[Found], *, has_secret: bool, syncs: bool, url: str) -> Environment:
    """What is missing. A secret that Farebox has already is not repeated."""
    theirs, ours = list[str](), list[str]()
    if arrived.arrive is False or not (arrived.arrive or has_secret):
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        theirs += [f"{_FORWARD}=true", f"{_THEIRS}={f'<the value of {_OURS}>' if has_secret else secret}"]
        ours += [] if has_secret else [f"{_OURS}={secret}"]
    if any(each.subject == "model access" and each.verdict == "warning" for each in found):
        theirs.append("BYPASS_MODEL_ACCESS_CONTROL=true")
    if not syncs:
        ours += [f"FAREBOX_OPENWEBUI__URL={url}", "FAREBOX_OPENWEBUI__ADMIN_KEY=<the admin key given here>"]
    return Environment(theirs, ours)

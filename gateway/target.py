"""Where a call goes: one backend's address, credential and fixed headers, checked once when the catalogue is read.

Pure. It resolves no name and opens nothing; `upstream` does, and this is the only place an address it opens comes from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, urlsplit

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 §5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")
_URL = re.compile(r"[\x21-\x7e]+\Z")
# The connection, the framing and the credential are ours to write; an operator's header of that name would make two.
_RESERVED = frozenset(
    (
        *("connection", "expect", "host", "keep-alive", "te", "trailer", "upgrade"),
        *("accept-encoding", "content-length", "content-type", "transfer-encoding"),
        *("authorization", "cookie", "x-request-id"),
    )
)


Auth = Literal["bearer", "x-api-key"]
ANTHROPIC = "anthropic"
"""The capability of an upstream that speaks Anthropic's own way: its key in a header of its own, its version said."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One backend. ``headers`` are lower-case pairs sent with every call; neither they nor the key show in a repr.
    ``auth`` is where the key stands: as a bearer, or under Anthropic's name, and then with its API's version.
    ``allow_private``: its address may lie in a private network."""

    name: str
    base_url: str
    api_key: str = field(default="", repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    auth: Auth = "bearer"
    allow_private: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        base_url: str,
        api_key: str = "",
        headers: Mapping[str, str] | None = None,
        capabilities: Collection[str] = (),
        allow_private: bool = False,
    ) -> Target:
        """A target from an operator's words. Raises ValueError, naming what is wrong and never the secret."""
        if not _VALUE.match(api_key):
            raise ValueError(f"upstream {name}: the API key holds characters that no header may carry")
        auth: Auth = "x-api-key" if ANTHROPIC in capabilities else "bearer"
        url, fixed = _checked_url(name, base_url), _checked_headers(name, headers or {}, auth)
        return cls(name, url, api_key, fixed, auth, allow_private)


def _checked_url(name: str, base_url: str) -> str:
    parts = urlsplit(base_url)
    if not _URL.match(base_url) or not _has_port(parts):
        raise ValueError(f"upstream {name}: base_url is not a valid URL")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"upstream {name}: base_url must be http:// or https:// with a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"upstream {name}: base_url must not hold credentials, a query or a fragment")
    return base_url.rstrip("/")


def _has_port(parts: SplitResult) -> bool:
    """Whether the port, if one is given, is a number that a port can have."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _checked_headers(name: str, headers: Mapping[str, str], auth: Auth) -> tuple[tuple[bytes, bytes], ...]:
    reserved = _RESERVED | {"x-api-key"} if auth == "x-api-key" else _RESERVED
    for key, value in headers.items():
        if not _TOKEN.match(key) or not _VALUE.match(value):
            raise ValueError(f"upstream {name}: header {key!r} is not a valid HTTP header")
        if key.lower() in reserved:
            raise ValueError(f"upstream {name}: header {key!r} is written by the gateway itself")
    return tuple((key.lower().encode(), value.encode()) for key, value in headers.items())

"""Which headers cross the gateway, in either direction.

Pure. Towards the backend an allow-list: what is not named here stays outside, so a caller's credential, cookie, address
or claimed identity cannot leak by being new. Towards the caller a list of what must not cross: connection headers, the
backend's own account, and every name Farebox answers for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.target import Target

Pair = tuple[bytes, bytes]

_TO_UPSTREAM = frozenset((b"content-type", b"accept", b"openai-beta", b"anthropic-version", b"anthropic-beta"))
_ACCEPT = (b"accept-encoding", b"identity")
_REQUEST_ID = b"x-request-id"
_SINGLE = frozenset((b"content-type", b"anthropic-version"))  # two of these let two readers see two different requests

# RFC 9110 §7.6.1, with the two that proxies made up and the length, which is no longer ours to promise.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade content-length content-encoding".split()
)
_NOT_DOWNSTREAM = _HOP_BY_HOP | frozenset(
    # The caller's browser would apply these to Farebox's own origin.
    b"set-cookie set-cookie2 alt-svc strict-transport-security clear-site-data nel report-to refresh location "
    # Whose account it is, and who asks for which credential.
    b"www-authenticate openai-organization openai-project "
    # Said by us.
    b"date server x-request-id".split()
)
_NOT_DOWNSTREAM_PREFIXES = (b"x-ratelimit-", b"access-control-", b"x-farebox-")
# What a caller without one is taken to mean, as calls without one are refused: the older of the two in force, since the
# newer one refuses some of what was always sent (temperature, top_p, top_k).
_ANTHROPIC_VERSION = (b"anthropic-version", b"2023-06-01")
# The bytes with which one header value becomes two headers, and those that no server sends (RFC 9110 §5.5).
_UNSAFE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def to_upstream(request_headers: Iterable[Pair], target: Target, request_id: str) -> list[Pair]:
    """The headers of the request that leaves: allowed ones of the caller's (lower-case names), then ours.

    The target's own headers replace the caller's of the same name. A value that could break out of its line is dropped.
    """
    own, names = _own(target)
    taken = set(names)
    out: list[Pair] = []
    for name, value in request_headers:
        if name in _TO_UPSTREAM and name not in taken and not _UNSAFE.search(value):
            out.append((name, value))
            if name in _SINGLE:
                taken.add(name)
    if target.auth == "x-api-key" and _ANTHROPIC_VERSION[0] not in taken:
        out.append(_ANTHROPIC_VERSION)
    return [*out, _ACCEPT, (_REQUEST_ID, request_id.encode("ascii")), *own]


@lru_cache(maxsize=1024)
def _own(target: Target) -> tuple[tuple[Pair, ...], frozenset[bytes]]:
    """What this target adds to every call, and the names that are ours to write."""
    credential = (_credential(target),) if target.api_key else ()
    own = (*credential, *target.headers)
    return own, frozenset([_ACCEPT[0], _REQUEST_ID, *(name for name, _ in own)])


def _credential(target: Target) -> Pair:
    key = target.api_key.encode("ascii")
    return (b"x-api-key", key) if target.auth == "x-api-key" else (b"authorization", b"Bearer " + key)


def to_downstream(reply_headers: Iterable[Pair], extra: Sequence[Pair]) -> list[Pair]:
    """The headers of the reply to the caller: the backend's that may cross, lower-case, then ``extra``, which wins."""
    own = dict(extra)
    crossing: list[Pair] = []
    hops: list[bytes] = []
    for name, value in reply_headers:
        shown = _shown(name)
        if shown and shown not in own and not _UNSAFE.search(value):
            crossing.append((shown, value))
        elif not shown and name.lower() == b"connection":
            hops += [option.strip().lower() for option in value.split(b",")]
    if hops:
        crossing = [pair for pair in crossing if pair[0] not in hops]
    return [*crossing, *extra]


@lru_cache(maxsize=128)
def _shown(name: bytes) -> bytes:
    """The name as the caller sees it; empty: such a field does not cross."""
    name = name.lower()
    return b"" if name in _NOT_DOWNSTREAM or name.startswith(_NOT_DOWNSTREAM_PREFIXES) else name

"""How many calls of one user and lane may be open at once, purely. A slot not renewed in time frees itself."""

from __future__ import annotations

from collections.abc import Mapping

from policies.decision import Deny
from policies.lanes import Lane

SLOT_TTL_MS = 15_000
"""Life of a slot without a beat: what a killed gateway leaves behind is gone after this."""

RETRY_MS = 1_000
"""What to tell a refused caller: nobody knows when an open call ends."""


def live(slots: Mapping[str, int], now_ms: int) -> dict[str, int]:
    """The slots (request id to expiry in ms) that have not expired."""
    return {request_id: expiry for request_id, expiry in slots.items() if expiry > now_ms}


def check(open_calls: int, limit: int, lane: Lane = "own") -> Deny | None:
    """Whether one more call may open; `limit` 0 is no limit."""
    return denial(open_calls, limit, lane) if 0 < limit <= open_calls else None


def denial(open_calls: int, limit: int, lane: Lane = "own") -> Deny:
    """The refusal of one call too many."""
    name = "concurrency" if lane == "own" else f"{lane}/concurrency"
    return Deny("too_many_concurrent", name, limit, used=open_calls, needed=1, available=0, retry_after_ms=RETRY_MS)

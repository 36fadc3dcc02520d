"""A call that is over: what its line in the log and its numbers are made of, many calls at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct

from gateway.meter import Reading
from ledger.hold import Outcome
from ledger.money import format_usd
from policies.principal import Principal


class Ended(Struct, frozen=True):
    """Names and numbers, nothing of the words. ``at`` is Unix time; ``model`` and ``upstream`` are those that answered
    ("": none was admitted), ``known_model`` and ``tier`` names of the catalogue, ``asked_model`` the caller's own word.
    ``upstream_s`` is what the backend was waited for, None where nothing was sent; ``tokens`` None: paid with money."""

    at: float
    request_id: UUID
    route: str
    status: int
    code: str
    principal: Principal
    tier: str
    model: str
    upstream: str
    known_model: str
    asked_model: str
    streamed: bool
    outcome: Outcome | None
    amount: int
    tokens: int | None
    reading: Reading | None
    whole_s: float
    before_s: float
    upstream_s: float | None
    first_s: float | None

    @property
    def overhead_s(self) -> float:
        """What the call spent in this process."""
        return max(0.0, self.whole_s - (self.upstream_s or 0.0))

    def line(self) -> dict[str, object]:
        """As it stands in the log."""
        principal, reading = self.principal, self.reading
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(self.at, UTC),
            "event": "call",
            "request_id": self.request_id,
            "route": self.route,
            "status": self.status,
            "code": self.code,
            "user": principal.user_id,
            "key": principal.key_id,
            "tier": self.tier,
            "model": self.model or self.asked_model,
            "streamed": self.streamed,
            "task": principal.task,
            "chat": principal.chat_id,
            "outcome": self.outcome,
            "cost_usd": format_usd(self.amount),
            "gateway_ms": round(self.overhead_s * 1000),
            "upstream_ms": round((self.upstream_s or 0.0) * 1000),
        }
        if reading is not None:
            line |= {"usage": reading.usage.parts(), "usage_source": reading.source, "problems": reading.problems}
        if self.tokens is not None:
            line["cost_tokens"] = self.tokens
        if principal.acted_by:
            line["acted_by"] = principal.acted_by
        return line

"""One call as a value: who asked what, through which door, when what happened, and what became of it."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct

from gateway.downstream import Headers
from gateway.meter import Reading
from gateway.phase import Patience, Phase
from gateway.surface import Request, Surface
from gateway.upload import Upload
from ledger.hold import Outcome
from policies.principal import Principal

_NO_PATIENCE = Patience(0.0, 0.0, 0.0, float("inf"))


class Clock(Struct):
    """Instants of one call, ``time.monotonic`` seconds; 0: not yet."""

    begun: float
    sent: float = 0.0  # the request first began to leave for the backend
    head: float = 0.0  # its reply began
    first: float = 0.0  # the first byte went to the caller
    moved: float = 0.0  # something last came from the backend, or a piece of the request left for it
    whole: float = 0.0  # the last piece of it left, for the backend of this try


class Story(Struct):
    """What one call is (who, what, through which door), and what became of it."""

    request_id: UUID
    surface: Surface
    principal: Principal
    request: Request
    headers: Headers
    idempotency: str
    clock: Clock
    tier: str  # the tier and model as labels for a call that was not admitted: only names the catalogue has
    known_model: str
    phase: Phase = Phase.ADMITTING
    patience: Patience = _NO_PATIENCE  # with the backend of this try
    status: int = 0
    code: str = ""
    outcome: Outcome | None = None
    amount: int = 0  # nano-USD
    tokens: int = 0  # what it was charged, where it was paid with tokens
    reading: Reading | None = None
    upload: Upload | None = None  # the request's body, where it lies on disk

"""Where a call stands, and why somebody may end it. Pure words, shared by the call and the clockwork behind it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Phase(StrEnum):
    """The deadlines differ: first byte while OPENING, idle while STREAMING, the caller's patience while SENDING."""

    ADMITTING = "admitting"
    OPENING = "opening"
    STREAMING = "streaming"
    SENDING = "sending"
    ENDING = "ending"


class Stop(StrEnum):
    """Why somebody else ends a call. The three timeouts are words of ``upstream.UpstreamFailure``, too."""

    CALLER_LEFT = "caller_left"
    SLOW_CALLER = "slow_caller"
    DRAINED = "drained"
    FIRST_BYTE = "first_byte_timeout"
    IDLE = "idle_timeout"
    TOTAL = "total_timeout"


class Patience(NamedTuple):
    """Seconds one backend may take."""

    connect: float
    first_byte: float
    idle: float
    total: float

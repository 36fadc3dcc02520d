"""What all simulated replicas have in common and no run changes: catalogue, settings, tokenizer, instruments."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from config.catalog import Catalog, Model, Upstream
from config.parts import Limits, Timeouts
from gateway.calllog import CallLog
from gateway.counting import Counting
from gateway.ended import Ended
from gateway.metrics import Metrics
from gateway.tally import Tally
from gateway.tokens import ENCODINGS, Tokenizers
from ledger.money import NANO
from ledger.price import Price
from policies.tier import Allowance, Tier, Window
from simulation.backend import LETTERS, PRICE_INPUT, PRICE_OUTPUT

TTL_S, BEAT_S, BEAT_TOKENS, TOTAL_S = 15.0, 2.0, 512, 30.0
HORIZON_S = TOTAL_S + TTL_S
BANK_TIMEOUT_S, REDIS_TIMEOUT_S = 5.0, 1.0
WINDOW_S, WINDOW_LIMIT, SLOTS = 10, 6, 3

TIMEOUTS = Timeouts(connect_s=2, first_byte_s=6, idle_s=6, total_s=TOTAL_S)
LIMITS = Limits(send_timeout_s=8, drain_stream_s=8)

PRICES = {
    "small": Price(1, "small", {"input": PRICE_INPUT, "output": PRICE_OUTPUT}),
    "dear": Price(2, "dear", {"input": 2 * PRICE_INPUT, "output": 3 * PRICE_OUTPUT}, 500_000),
}

TIERS = {
    "paid": Tier("paid"),
    "plan": Tier("plan", allowance=Allowance(NANO // 500)),
    "richer": Tier("richer", allowance=Allowance(NANO // 200), markup_ppm=1_100_000),
    "daily": Tier("daily", allowance=Allowance(NANO // 1000, every="day")),
    "tokens": Tier("tokens", allowance=Allowance(1500, unit="tokens")),
    "limited": Tier("limited", windows=(Window(WINDOW_LIMIT, "requests", WINDOW_S),), concurrency=SLOTS),
}

CATALOG = Catalog(
    upstreams={"backend": Upstream("backend", "http://backend.invalid/v1")},
    models={
        "small": Model("small", "backend", "small", on_disconnect="drain"),
        "dear": Model("dear", "backend", "dear", fallback="small"),
    },
    tiers=TIERS,
    prices=PRICES,
)


class _Words:
    """The vocabulary of the simulated backend: a token has four letters."""

    slice_chars = 1 << 20
    thread_chars = 1 << 20

    def count(self, text: str) -> int:
        return -(-len(text) // LETTERS)


class _NoLog(CallLog):
    """Nobody reads the lines of simulated calls."""

    def __init__(self) -> None:
        """It needs no thread."""

    def write(self, line: Ended | dict[str, Any]) -> None:
        """Dropped at once."""


class Common:
    """One for each process that simulates; what it holds says nothing of any one run."""

    def __init__(self) -> None:
        self.counting = Counting(Tokenizers({name: _Words() for name in ENCODINGS}))
        self.metrics = Metrics()
        self.log = _NoLog()
        # It is never flushed: refusals are counted beside the money, not in it.
        self.tally = Tally(cast(AsyncEngine, None))

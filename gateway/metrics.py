"""Every Prometheus instrument, declared once. No user id, key or prompt is ever a label.

Children are cached by their label values: looking one up through the client costs more than counting. The sets of
values are bounded by the catalogue and the contract (a model nobody has in the catalogue counts as ``unknown``).

Several processes of one machine (``PROMETHEUS_MULTIPROC_DIR``, which `farebox/workers.py` sets before this library is
imported) count into files of one folder, and each of them shows the sums of all: counters of the dead included, gauges
of the living. https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

from ledger.money import NANO
from ledger.usage import TOKEN_KINDS, Usage

FOLDER_ENV = "PROMETHEUS_MULTIPROC_DIR"
_OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.05, 0.1, 0.25, 1.0)
_LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """The instruments of one process, on a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        # A second series for each, with an instant nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "farebox_requests",
            "Calls by how they ended.",
            ["route", "model", "tier", "status", "code"],
            registry=registry,
        )
        self._tokens = Counter(
            "farebox_tokens", "Tokens charged.", ["model", "tier", "kind", "source"], registry=registry
        )
        self._charged = Counter("farebox_charged_usd", "USD charged.", ["model", "tier"], registry=registry)
        self._refusals = Counter("farebox_refusals", "Calls refused.", ["code", "tier"], registry=registry)
        self._overhead = Histogram(
            "farebox_overhead_seconds",
            "Time spent in the gateway: until the upstream request left (before), and of the whole call (total).",
            ["phase"],
            buckets=_OVERHEAD_BUCKETS,
            registry=registry,
        )
        self._ttft = Histogram(
            "farebox_ttft_seconds", "From call to first byte of the answer.", ["model"], buckets=_LATENCY_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._upstream = Histogram(
            "farebox_upstream_seconds", "Time spent waiting for the backend.", ["model", "upstream"],
            buckets=_LATENCY_BUCKETS, registry=registry,
        )  # fmt: skip
        self._uncharged = Counter(
            "farebox_uncharged", "Calls whose tokens had no price, no usage or no sound one.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._estimate_ratio = Gauge(
            "farebox_estimate_ratio",
            "Input tokens reported per token estimated, running.",
            ["model"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )

        def gauge(name: str, says: str, mode: Literal["livesum", "livemax", "sum"]) -> Gauge:
            return Gauge(f"farebox_{name}", says, registry=registry, multiprocess_mode=mode)

        self.streams_open = gauge("streams_open", "Calls running now.", "livesum")
        self.holds_open = gauge("holds_open", "Holds of this process that are open.", "livesum")
        self.holds_usd = gauge("holds_usd", "USD set aside by them.", "livesum")
        self.posting_lag = gauge("posting_lag_seconds", "Age of the oldest settlement not yet committed.", "livemax")
        self.spool_events = gauge("spool_events", "Settlements on disk, the bank being away.", "livesum")
        self.refused_settlements = gauge(
            "settlements_refused", "Settlements the ledger would not take; look at the log.", "sum"
        )
        self.ledger_drift = gauge("ledger_drift_usd", "Wallets' balances minus their postings; must be 0.", "livemax")
        self.default_partition = gauge(
            "default_partition_rows", "Rows of the ledger that stand outside their months; must be 0.", "livemax"
        )
        self.limiter_degraded = gauge(
            "limiter_degraded", "1 while windows are counted in this process, Redis being away.", "livemax"
        )
        self.calls_waiting = gauge("calls_waiting", "Embeddings waiting for their turn.", "livesum")
        self.uploads_bytes = gauge("uploads_bytes", "Bytes of disk that uploads under way take.", "livesum")
        self.overhead_before = self._overhead.labels("before")
        self.overhead_total = self._overhead.labels("total")
        self._before_scrape: list[Callable[[], None]] = []
        cache = lru_cache(maxsize=4096)
        self.request = cache(self._requests.labels)
        self.ttft = cache(self._ttft.labels)
        self.upstream = cache(self._upstream.labels)
        self.refusal = cache(self._refusals.labels)
        self.uncharged = cache(self._uncharged.labels)
        self.estimate_ratio = cache(self._estimate_ratio.labels)
        self._charged_child = cache(self._charged.labels)
        self._tokens_child = cache(self._tokens.labels)

    def charged(self, model: str, tier: str, usage: Usage, source: str, amount: int) -> None:
        """Count one charge. Counters are floats: they show, the ledger knows."""
        self._charged_child(model, tier).inc(amount / NANO)
        for kind in TOKEN_KINDS:
            if tokens := getattr(usage, kind):
                self._tokens_child(model, tier, kind, source).inc(tokens)

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """``refresh`` sets the gauges it owns each time somebody looks."""
        self._before_scrape.append(refresh)

    def refresh(self) -> None:
        """Set every gauge that somebody owns to what it is now."""
        for refresh in self._before_scrape:
            refresh()

    def render(self) -> bytes:
        """The Prometheus text format."""
        self.refresh()
        if FOLDER_ENV not in os.environ:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)

"""Every Prometheus instrument, declared once. No user id, key or prompt is ever a label.

What a call adds is noted in its course and counted a few times a second and whenever somebody looks, for all calls of
that time at once: counting through the client costs as much as the call's other last lines together. Children are
cached by their label values; the sets of values are bounded by the catalogue and the contract (a model nobody has in
the catalogue counts as ``unknown``).

Several processes of one machine (``PROMETHEUS_MULTIPROC_DIR``, which `farebox/workers.py` sets before this library is
imported) count into files of one folder, and each of them shows the sums of all: counters of the dead included, gauges
of the living. https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import Counter as Sums
from collections import defaultdict, deque
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from msgspec.structs import astuple
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.ended import Ended
from ledger.money import NANO
from ledger.usage import TOKEN_KINDS

FOLDER_ENV = "PROMETHEUS_MULTIPROC_DIR"
_OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.05, 0.1, 0.25, 1.0)
_NOTED_MAX = 10_000  # calls; nobody else may have come to count them
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
        self.call_lines_dropped = Counter(
            "farebox_call_lines_dropped", "Lines of calls that nobody took in time; the ledger has the calls.",
            registry=registry,
        )  # fmt: skip
        self.corrections_lost = Counter(
            "farebox_limiter_corrections_lost",
            "Calls whose windows keep the estimate, Redis having missed what they used.",
            registry=registry,
        )
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
        self._before_scrape: list[Callable[[], None]] = []
        cache = lru_cache(maxsize=4096)
        self.request = cache(self._requests.labels)
        self.refusal = cache(self._refusals.labels)
        self.uncharged = cache(self._uncharged.labels)
        self._overhead_child = cache(self._overhead.labels)
        self._ttft_child = cache(self._ttft.labels)
        self._upstream_child = cache(self._upstream.labels)
        self._charged_child = cache(self._charged.labels)
        self._tokens_child = cache(self._tokens.labels)
        self._ended: deque[Ended] = deque()
        self._estimates: dict[str, Callable[[str], float]] = {}
        self._counting = threading.Lock()

    def ended(self, call: Ended) -> None:
        """Note a call that is over."""
        self._ended.append(call)
        if len(self._ended) >= _NOTED_MAX:
            self.count_up()

    def estimated(self, model: str, ratio: Callable[[str], float]) -> None:
        """Note that the ratio of this model's estimates has changed."""
        self._estimates[model] = ratio

    def count_up(self) -> None:
        """Count what was noted; from any thread."""
        with self._counting:
            calls = [self._ended.popleft() for _ in range(len(self._ended))]
            self._count_charges(calls)
            self._count_ended(calls)
            while self._estimates:
                model, ratio = self._estimates.popitem()
                self._estimate_ratio.labels(model).set(ratio(model))

    def _count_charges(self, calls: list[Ended]) -> None:
        """Counters are floats: they show, the ledger knows."""
        money: Sums[tuple[str, str]] = Sums()
        tokens: Sums[tuple[str, str, str, str]] = Sums()
        for call in calls:
            if call.reading is None:
                continue
            money[call.model, call.tier] += call.amount
            for kind, number in zip(TOKEN_KINDS, astuple(call.reading.usage), strict=False):
                if number:
                    tokens[call.model, call.tier, kind, call.reading.source] += number
        for whose, amount in money.items():
            self._charged_child(*whose).inc(amount / NANO)
        for which, number in tokens.items():
            self._tokens_child(*which).inc(number)

    def _count_ended(self, calls: list[Ended]) -> None:
        requests: Sums[tuple[str, str, str, int, str]] = Sums()
        seconds: defaultdict[Histogram, list[float]] = defaultdict(list)
        for call in calls:
            model = call.model or call.known_model
            requests[call.route, model, call.tier, call.status, call.code] += 1
            seconds[self._overhead_child("total")].append(call.overhead_s)
            if call.upstream_s is not None:
                seconds[self._overhead_child("before")].append(call.before_s)
                seconds[self._upstream_child(model, call.upstream)].append(call.upstream_s)
            if call.first_s is not None:
                seconds[self._ttft_child(model)].append(call.first_s)
        for (route, model, tier, status, code), number in requests.items():
            self.request(route, model, tier, str(status), code).inc(number)
        for histogram, values in seconds.items():
            _observe(histogram, values)

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """``refresh`` sets the gauges it owns each time somebody looks."""
        self._before_scrape.append(refresh)

    def refresh(self) -> None:
        """Count what was noted, and set every gauge that somebody owns to what it is now."""
        self.count_up()
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


def _observe(histogram: Histogram, values: list[float]) -> None:
    """What ``histogram.observe`` does with each, for all of them: the client has no way to tell it many at once."""
    values.sort()
    seen = 0
    for bound, bucket in zip(histogram._upper_bounds, histogram._buckets, strict=True):
        upto = bisect_right(values, bound)
        if upto > seen:
            bucket.inc(upto - seen)
            seen = upto
    histogram._sum.inc(sum(values))

"""Every measure, in the order in which they are taken: what it is called, which figure leads, and which are shown."""

from __future__ import annotations

from bench.homes import ledger_growth, memory, workers
from bench.measures import Measure, burst, calls, everybody, first_byte, held, hot_wallet, paced

_TRUST = ("busy", "foreign_busy", "others_busy", "bad")
_CALL = ("calls_per_s", "cpu_us_per_call", "engines_us_per_call", "p50_ms", "p99_ms", *_TRUST)
_CHUNK = ("cpu_us_per_chunk", "chunks_per_s", "delay_p50_ms", "delay_p99_ms", *_TRUST)
_BURST = ("chunks_per_s", "cpu_us_per_chunk", "streams_per_s", *_TRUST)
_FIRST = ("first_p50_ms", "first_p99_ms", "delay_p99_ms", "cpu_us_per_stream", *_TRUST)

MEASURES = (
    Measure("calls", "replies in one piece, 64 connections, 64 wallets", "calls_per_s", True, _CALL, everybody(calls)),
    Measure("hot-wallet", "the same with many and one", "calls_per_s", True, _CALL, hot_wallet, mark="64 wallets"),
    Measure("burst", "16 streams of 200 chunks, as fast as read", "chunks_per_s", True, _BURST, everybody(burst)),
    Measure("paced", "400 streams of 20 chunks a second", "cpu_us_per_chunk", False, _CHUNK, everybody(paced)),
    Measure("first-byte", "100 new streams a second", "first_p50_ms", False, _FIRST, everybody(first_byte)),
    Measure(
        "held", "most paced streams whose chunks come less than 50 ms late at p99", "streams", True,
        ("streams", *_CHUNK), everybody(held), rounds_max=3,
    ),
    Measure(
        "memory", "1000 open streams in a fresh process", "kib_per_stream", False,
        ("kib_per_stream", "process_mib", "before_mib", "streams", "bad"), memory, rounds_max=3,
    ),
    Measure(
        "ledger-growth", "calls on an empty ledger with 10 users, and on one that has grown", "cost_us_per_call", False,
        ("cost_us_per_call", *_CALL), ledger_growth, mark="empty",
    ),
    Measure(
        "workers", "one process on one core, two on two", "calls_per_s", True,
        ("calls_per_s", "burst_chunks_per_s", "cpu_us_per_call", "engines_us_per_call", "others_busy", "bad"), workers,
        mark="one process",
    ),
)  # fmt: skip

"""The instruments: names of the contract, bounded labels, gauges read when somebody looks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics as metrics_of
from gateway.ended import Ended
from gateway.meter import Reading
from gateway.metrics import Metrics
from ledger.hold import Outcome
from ledger.usage import Usage, UsageSource
from policies.principal import Principal


def samples(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def test_a_charge_is_counted_in_usd_and_in_tokens_by_kind() -> None:
    metrics = Metrics()
    reading = Reading(Usage(input=11, cache_read=5, output=3, web_searches=2), UsageSource.REPORTED)
    for _ in range(2):
        metrics.ended(ended(reading=reading, amount=2_500_000))
    metrics.ended(ended(reading=None, amount=0))
    found = samples(metrics)
    assert found["farebox_charged_usd_total"] == [({"model": "small", "tier": "free"}, 0.005)]
    kinds = {labels["kind"]: value for labels, value in found["farebox_tokens_total"]}
    assert kinds == {"input": 22, "cache_read": 10, "output": 6}
    assert all(labels["source"] == "reported" for labels, _ in found["farebox_tokens_total"])


def test_requests_and_refusals_are_counted_by_their_labels() -> None:
    metrics = Metrics()
    metrics.request("chat.completions", "small", "free", "200", "").inc()
    metrics.refusal("key_revoked", "unknown").inc()
    metrics.uncharged("no_usage").inc()
    found = samples(metrics)
    labels = {"route": "chat.completions", "model": "small", "tier": "free", "status": "200", "code": ""}
    assert found["farebox_requests_total"] == [(labels, 1)]
    assert found["farebox_refusals_total"] == [({"code": "key_revoked", "tier": "unknown"}, 1)]
    assert found["farebox_uncharged_total"] == [({"reason": "no_usage"}, 1)]


def test_a_child_is_looked_up_once() -> None:
    metrics = Metrics()
    assert metrics.request("r", "m", "t", "200", "") is metrics.request("r", "m", "t", "200", "")


def test_gauges_are_read_when_somebody_looks() -> None:
    metrics, looked = Metrics(), []
    metrics.before_scrape(lambda: looked.append(1))
    metrics.before_scrape(lambda: metrics.streams_open.set(len(looked)))
    assert samples(metrics)["farebox_streams_open"] == [({}, 1)]
    assert samples(metrics)["farebox_streams_open"] == [({}, 2)]


def test_two_processes_in_one_share_nothing() -> None:
    one, two = Metrics(), Metrics()
    one.streams_open.set(5)
    assert samples(two)["farebox_streams_open"] == [({}, 0)]


def ended(**more: Any) -> Ended:
    usual: dict[str, Any] = {
        "at": 1.5,
        "request_id": UUID(int=1),
        "route": "chat.completions",
        "status": 200,
        "code": "",
        "principal": Principal(UUID(int=2), UUID(int=3), "r", "s", "", "Ada", "user", "free", "active", "en"),
        "tier": "free",
        "model": "small",
        "upstream": "main",
        "known_model": "small",
        "asked_model": "small",
        "streamed": False,
        "outcome": Outcome.COMPLETED,
        "amount": 5,
        "tokens": None,
        "reading": None,
        "whole_s": 2.25,
        "before_s": 0.0005,
        "upstream_s": 2.25,
        "first_s": 2.1,
    }
    return Ended(**{**usual, **more})


def test_calls_that_are_over_are_counted_together_as_each_would_have_been() -> None:
    metrics, told = Metrics(), Metrics()
    for whole in (0.0, 0.0004, 0.0005, 0.0006, 0.02, 7.0):
        metrics.ended(ended(whole_s=whole, upstream_s=0.0))
        told._overhead.labels("total").observe(whole)
    metrics.ended(ended(model="", known_model="unknown", status=429, code="rate_limit", upstream_s=None, first_s=None))
    told._overhead.labels("total").observe(2.25)
    counted = samples(metrics)
    total = [each for each in counted["farebox_overhead_seconds_bucket"] if each[0]["phase"] == "total"]
    assert total == samples(told)["farebox_overhead_seconds_bucket"]
    requests = {
        (labels["model"], labels["status"], labels["code"]): n for labels, n in counted["farebox_requests_total"]
    }
    assert requests == {("small", "200", ""): 6, ("unknown", "429", "rate_limit"): 1}
    counts = {labels["phase"]: value for labels, value in counted["farebox_overhead_seconds_count"]}
    assert counts == {"before": 6, "total": 7}
    assert counted["farebox_ttft_seconds_count"] == [({"model": "small"}, 6)]
    assert counted["farebox_upstream_seconds_sum"] == [({"model": "small", "upstream": "main"}, 0)]


def test_what_nobody_counts_is_counted_before_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_of, "_NOTED_MAX", 3)
    metrics = Metrics()
    for _ in range(3):
        metrics.ended(ended())
    assert not metrics._ended


def test_the_ratio_of_a_models_estimates_is_the_one_of_the_moment_somebody_looks() -> None:
    metrics, ratios = Metrics(), [1.0]
    metrics.estimated("small", lambda model: ratios[-1])
    ratios.append(1.5)
    assert samples(metrics)["farebox_estimate_ratio"] == [({"model": "small"}, 1.5)]
